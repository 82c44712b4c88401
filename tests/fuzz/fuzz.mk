# Fuzzing: one target per tests/fuzz/fuzz_NAME.c (see fuzz.h). Included by the Makefile.
#
# Without an engine a target is linked with replay.c and runs in `make test`; with FUZZ=1 it is a libFuzzer program.

FUZZ_TARGETS := $(patsubst tests/fuzz/fuzz_%.c,%,$(wildcard tests/fuzz/fuzz_*.c))
FUZZ_PICKED  := $(if $(T),$(filter $(T),$(FUZZ_TARGETS)),$(FUZZ_TARGETS))
FUZZ_DRIVER  := $(B)/tests/fuzz/fuzz.o $(if $(FUZZ),,$(B)/tests/fuzz/replay.o)
FUZZ_SEEDS   := $(B)/fuzz-seeds

$(B)/fuzz/fuzz_%: $(B)/tests/fuzz/fuzz_%.o $(FUZZ_DRIVER) $(B)/libqs.a
	@mkdir -p $(@D)
	@echo "  FUZZ  $@"
	$(Q)$(CC) $(SAN) $(if $(FUZZ),-fsanitize=fuzzer) -o $@ $^ $(LDLIBS)

$(FUZZ_SEEDS)/.made: tests/fuzz/seeds.sh $(B)/qlora-stream
	$(Q)sh $< $(B)/qlora-stream $(FUZZ_SEEDS)
	$(Q)touch $@

## replay: the fuzz targets over their seeds and some mutations, no engine     (make replay T="tokenizer safetensors")
replay: $(FUZZ_PICKED:%=$(B)/fuzz/fuzz_%) $(FUZZ_SEEDS)/.made
	$(Q)QS_FUZZ_SEEDS=$(FUZZ_SEEDS) QS_TEST_LOGS=$(B)/logs tests/run $(FUZZ_PICKED:%=$(B)/fuzz/fuzz_%)

## fuzz: libFuzzer over every target, needs clang      (make fuzz [T=tokenizer] [N=1000000])
ifeq ($(FUZZ),1)
fuzz: $(FUZZ_PICKED:%=$(B)/fuzz/fuzz_%) $(FUZZ_SEEDS)/.made
	$(Q)tests/fuzz/run.sh $(B)/fuzz $(FUZZ_SEEDS) $(or $(N),1000000) $(FUZZ_PICKED)
else
fuzz:
	$(Q)$(MAKE) --no-print-directory FUZZ=1 CC=clang CUDA=0 fuzz $(if $(T),T="$(T)") $(if $(N),N=$(N))
endif

.PHONY: replay fuzz
