# The CUDA backend, included by the Makefile where nvcc is found.
#   make CUDA_ARCHS="75 80 86 89 90 100 120"     what to compile for; the last one's PTX is kept for later cards, and
#                                                that of sm_75 and sm_80 for those in between
#                                                (default: the cards of this machine; 80, 90 and 120 where there is none)
#   make CUDA_LINES=                             without the line numbers that profilers and compute-sanitizer show

ifndef CUDA_ARCHS
CARDS      := $(shell nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | sed -n 's/^\([0-9]*\)\.\([0-9]\)$$/\1\2/p' | sort -nu)
CUDA_ARCHS := $(or $(filter $(patsubst sm_%,%,$(shell $(NVCC) --list-gpu-code)),$(CARDS)),80 90 120)
endif
CUDA_LINES ?= -lineinfo
CUDA_HOME  := $(abspath $(dir $(NVCC))/..)
NVCCFLAGS  := -std=c++17 -O3 -I. $(CUDA_LINES) --fmad=false -Xfatbin -compress-all -Xcompiler -Wall,-fno-exceptions,-fno-rtti \
              $(if $(filter 90,$(CUDA_ARCHS)),-DQS_CUDA_SM90)
CUDA_CODE  := $(foreach a,$(CUDA_ARCHS),-gencode arch=compute_$(a),code=sm_$(a)) \
              $(foreach a,$(sort 75 $(filter 80,$(CUDA_ARCHS)) $(lastword $(CUDA_ARCHS))),-gencode arch=compute_$(a),code=compute_$(a))
CUDA_OBJ   := $(patsubst %.cu,$(B)/%.o,$(wildcard kernels/cuda/*.cu))
LDLIBS     += -L$(CUDA_HOME)/lib64 -lcudart_static -ldl -lrt -lstdc++

$(B)/kernels/cuda/%.o: kernels/cuda/%.cu
	@mkdir -p $(@D)
	@echo "  NVCC  $<"
	$(Q)$(NVCC) $(NVCCFLAGS) $(CUDA_CODE) -MMD -MP -MF $(@:.o=.d) -c -o $@ $<

# Hopper's warpgroup instructions exist for the very target sm_90a; where that is not wanted these files are empty.
ifneq ($(filter 90,$(CUDA_ARCHS)),)
$(B)/kernels/cuda/%_sm90.o: CUDA_CODE := -gencode arch=compute_90a,code=sm_90a
endif

# ---- on a machine with a card ----------------------------------------------------------------------------------------------

GPU_TESTS  := $(patsubst tests/gpu/%.c,$(B)/tests/gpu/%,$(wildcard tests/gpu/test_gpu_*.c))

$(GPU_TESTS): $(B)/tests/gpu/%: tests/gpu/%.c $(patsubst %.c,$(B)/%.o,$(wildcard tests/support/*.c)) $(B)/libqs.a
	@mkdir -p $(@D)
	@echo "  TEST  $@"
	$(Q)$(CC) $(CFLAGS) -MMD -MP -o $@ $< $(filter %.o,$^) $(B)/libqs.a -lcheck -lsubunit -lrt $(LDLIBS)

GPU_PARTS  := $(B)/qlora-stream $(GPU_TESTS) $(B)/tests/test_golden $(B)/bench/bench_gpu

## test-gpu: operations, golden training, streamed = resident, budget, sanitizers, on this machine's GPU
test-gpu: qlora-stream $(GPU_PARTS)
	$(Q)QS_BUILD=$(B) tests/gpu/run.sh test sanitize

## bench-gpu: the speed figures of this machine's GPU, as ratios
bench-gpu: qlora-stream $(GPU_PARTS)
	$(Q)QS_BUILD=$(B) tests/gpu/run.sh bench steps

## gpu-bundle: build/gpu-bundle.tar.gz for a machine with a GPU and CUDA but no compiler: unpack, run tests/gpu/run.sh
# Built apart, for processors from 2013 on and every card: that machine's need not be this one's. Line numbers would double it.
gpu-bundle:
	$(Q)$(MAKE) --no-print-directory B=build/portable CUDA_ARCHS="75 80 86 89 90 100 120" CUDA_LINES= gpu-bundle-here
gpu-bundle-here: $(GPU_PARTS)
	$(Q)QS_BUILD=$(B) tests/gpu/bundle.sh build/gpu-bundle.tar.gz

.PHONY: test-gpu bench-gpu gpu-bundle gpu-bundle-here
