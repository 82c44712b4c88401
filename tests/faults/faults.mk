# Crashes and faults of whole runs (tests/faults/*). Included by the Makefile.

$(B)/faults/preload.so: tests/faults/preload.c
	@mkdir -p $(@D)
	@echo "  LINK  $@"
	$(Q)$(CC) -std=gnu11 -D_GNU_SOURCE -O1 -g -Wall -Wextra -Wno-unused-parameter $(if $(WERROR),-Werror) -fPIC -shared -o $@ $< -ldl

$(B)/faults/%: $(B)/tests/faults/%.o $(B)/tests/faults/harness.o $(B)/tests/faults/power_cut.o $(B)/libqs.a | $(B)/faults/preload.so $(B)/qlora-stream
	@mkdir -p $(@D)
	@echo "  TEST  $@"
	$(Q)$(CC) $(SAN) -o $@ $^ $(LDLIBS)

## test-crash: kills at every change of the disk and at random moments, and power cuts, of whole runs: the same results (minutes)
test-crash: $(B)/faults/test_crash
	$(Q)QS_JOBS=$${QS_JOBS:-$$(nproc)} $<

## test-faults: every call into the system fails once, and at random: retried, or one error and a resume that works (minutes)
test-faults: $(B)/faults/test_faults
	$(Q)QS_JOBS=$${QS_JOBS:-$$(nproc)} $<

## test-steps: 10,000 steps: resident memory, open files and the time of a step stay flat (a minute)
test-steps: $(B)/faults/test_steps
	$(Q)$<

# Their short forms, for make test.
FAULT_TESTS := $(B)/faults/test_crash $(B)/faults/test_faults $(B)/faults/test_steps

.PHONY: test-crash test-faults test-steps
