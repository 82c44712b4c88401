/* dlfcn.h - run-time loading as the simulator gives it: cuBLAS and NVML are found in the simulator, nothing
 * else is. */
#ifndef CUDASIM_DLFCN_H
#define CUDASIM_DLFCN_H

#define RTLD_NOW 2
#define RTLD_LOCAL 0
#define dlopen cudasim_dlopen
#define dlsym cudasim_dlsym
#define dlclose cudasim_dlclose

extern "C" {
void *cudasim_dlopen(const char *name, int flags);
void *cudasim_dlsym(void *library, const char *symbol);
int cudasim_dlclose(void *library);
}

#endif
