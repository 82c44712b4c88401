# Tests on a simulated CUDA device: tests/unit/test_cudasim_*.c are linked with the CUDA backend compiled by the host compiler and
# with the simulator, ahead of the library, whose own CUDA backend is then not taken. (Static pattern rules: an implicit one
# would lose to the general rule for tests as long as the objects do not exist.)

CXX         := $(if $(findstring clang,$(CC)),clang++,g++)
SIM_FLAGS   := -std=gnu++17 -D_GNU_SOURCE -DQS_CUDASIM -DQS_CUDA_SM90 -Itests/cudasim/include -I. $(OPT) -O2 -ffp-contract=off -fno-strict-aliasing \
               -Wall -Wextra -Wno-unknown-pragmas -Wno-pass-failed -Wno-unused-parameter $(if $(WERROR),-Werror) $(SAN)
SIM_CU      := $(patsubst %.cu,$(B)/cudasim/%.o,$(wildcard kernels/cuda/*.cu))
SIM_CPP     := $(patsubst %.cpp,$(B)/cudasim/%.o,$(wildcard tests/cudasim/*.cpp))
SIM_C       := $(B)/cudasim/kernels/backends.o
SIM_TESTS   := $(patsubst tests/unit/%.c,$(B)/tests/%,$(wildcard tests/unit/test_cudasim_*.c))

$(SIM_CU): $(B)/cudasim/%.o: %.cu
	@mkdir -p $(@D)
	@echo "  SIM   $<"
	$(Q)$(CXX) $(SIM_FLAGS) -MMD -MP -x c++ -c -o $@ $<

$(SIM_CPP): $(B)/cudasim/%.o: %.cpp
	@mkdir -p $(@D)
	@echo "  SIM   $<"
	$(Q)$(CXX) $(SIM_FLAGS) -MMD -MP -c -o $@ $<

$(SIM_C): $(B)/cudasim/%.o: %.c
	@mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) -DQS_CUDA=1 -MMD -MP -c -o $@ $<

$(SIM_TESTS): $(B)/tests/%: tests/unit/%.c $(TEST_HELPERS) $(SIM_CU) $(SIM_CPP) $(SIM_C) $(B)/libqs.a
	@mkdir -p $(@D)
	@echo "  TEST  $@"
	$(Q)$(CC) $(CFLAGS) -MMD -MP -o $@ $< $(TEST_HELPERS) $(SIM_CU) $(SIM_CPP) $(SIM_C) $(B)/libqs.a -lcheck -lsubunit -lrt $(LDLIBS) -lstdc++

# Golden training again, all of it on the simulated device.
# Minutes of simulated kernels: too long under a sanitizer, where the operations and the training run are simulated all the same.
TESTS       += $(if $(ASAN)$(TSAN),,$(B)/tests/test_cudasim_golden)
$(B)/tests/test_cudasim_golden: tests/unit/test_golden.c tests/cudasim/default_device.c $(TEST_HELPERS) $(SIM_CU) $(SIM_CPP) $(SIM_C) $(B)/libqs.a
	@echo "  TEST  $@"
	$(Q)$(CC) $(CFLAGS) -o $@ $(filter-out %.a,$^) $(B)/libqs.a -lcheck -lsubunit -lrt $(LDLIBS) -lstdc++
