# The CUDA backend, included by the Makefile where nvcc is found.
#   make CUDA_ARCHS="75 80 86 89 90 100 120"     what to compile for; the last one's PTX is kept for later cards (default: 80 90)

CUDA_ARCHS ?= 80 90
CUDA_HOME  := $(abspath $(dir $(NVCC))/..)
NVCCFLAGS  := -std=c++17 -O3 -I. -lineinfo --fmad=false -Xcompiler -Wall,-fno-exceptions,-fno-rtti \
              $(foreach a,$(CUDA_ARCHS),-gencode arch=compute_$(a),code=sm_$(a)) \
              -gencode arch=compute_$(lastword $(CUDA_ARCHS)),code=compute_$(lastword $(CUDA_ARCHS))
CUDA_OBJ   := $(patsubst %.cu,$(B)/%.o,$(wildcard kernels/cuda/*.cu))
LDLIBS     += -L$(CUDA_HOME)/lib64 -lcudart_static -ldl -lrt -lstdc++

$(B)/kernels/cuda/%.o: kernels/cuda/%.cu
	@mkdir -p $(@D)
	@echo "  NVCC  $<"
	$(Q)$(NVCC) $(NVCCFLAGS) -MMD -MP -MF $(@:.o=.d) -c -o $@ $<
