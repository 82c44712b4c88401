# qlora-stream: memory-first streaming QLoRA trainer.      make help
#
# Flavours have their own folders, so switching never needs a clean:
#   make                  build/release       make ASAN=1   build/asan  (address + undefined behaviour)
#   make TSAN=1           build/tsan          make CC=clang build/release-clang
#   make CUDA=0           without the CUDA backend even where nvcc is found
#   make WERROR=1         warnings are errors (continuous integration)   make V=1   show commands

# Whatever is included below, plain `make` builds the program.
.DEFAULT_GOAL := all

CC      := $(if $(filter default undefined,$(origin CC)),gcc,$(CC))
NVCC    ?= $(shell command -v nvcc 2>/dev/null || ls /usr/local/cuda/bin/nvcc 2>/dev/null)
CUDA    ?= $(if $(NVCC),1,0)
PKGS    := liburing libxxhash jansson yaml-0.1 libpcre2-8 libutf8proc zlib liblzma libzstd
Q       := $(if $(V),,@)

FLAVOUR := $(if $(FUZZ),fuzz,$(if $(ASAN),asan,$(if $(TSAN),tsan,release)))$(if $(findstring clang,$(CC)),-clang)$(if $(filter 0,$(CUDA)),-nocuda)
B       := build/$(FLAVOUR)

WARN    := -Wall -Wextra -Wshadow -Wvla -Wpointer-arith -Wwrite-strings -Wstrict-prototypes -Wmissing-prototypes \
           -Wno-unused-parameter $(if $(findstring clang,$(CC)),,-Wno-format-truncation) $(if $(WERROR),-Werror)
comma   := ,
SAN     := $(if $(or $(ASAN),$(FUZZ)),-fsanitize=address$(comma)undefined -fno-sanitize-recover=undefined,$(if $(TSAN),-fsanitize=thread)) \
           $(if $(FUZZ),-fsanitize=fuzzer-no-link)
OPT     := $(if $(ASAN)$(TSAN)$(FUZZ),-O1 -g -fno-omit-frame-pointer,-O2 -g)
CFLAGS  += -std=gnu11 -D_GNU_SOURCE -I. $(OPT) -ffp-contract=off $(WARN) $(SAN) $(shell pkg-config --cflags $(PKGS) 2>/dev/null)
# Without the libraries the compiler's own message would be about the first header it misses.
ifneq ($(shell pkg-config --exists $(PKGS) 2>&1 && printf '\#include <dnnl.h>\n\#include <bzlib.h>\n' | $(CC) -E -o /dev/null - 2>&1 && echo ok),ok)
$(if $(filter deps demo clean help lint,$(MAKECMDGOALS)),,$(warning some libraries are missing: make deps installs them))
endif
# The CPU kernels are built once per instruction set, everything else (CPU_BASE of them too) for the oldest processor: one program runs on all.
MACHINE := $(shell $(CC) -dumpmachine)
ifneq ($(filter x86_64%,$(MACHINE)),)
ISAS        := v2 v3 v4 v4_bf16
ISA_v2      := -march=x86-64-v2
ISA_v3      := -march=x86-64-v3
ISA_v4      := -march=x86-64-v4 -mprefer-vector-width=512
ISA_v4_bf16 := $(ISA_v4) -mavx512bf16 -mavx512vbmi
ONEDNN      ?= 1
else
ISAS          := neon neon_bf16
ISA_neon      := -march=armv8-a
ISA_neon_bf16 := -march=armv8.2-a+bf16
ONEDNN      ?= 0
endif
CPU_BASE    := $(patsubst %,kernels/cpu/%.c,device_cpu choose_table $(if $(filter 1,$(ONEDNN)),gemm_onednn))
CPU_KERNELS := $(filter-out $(CPU_BASE) kernels/cpu/gemm_onednn.c,$(wildcard kernels/cpu/*.c))
KERNEL_CFLAGS := -O3 -fopenmp -fno-math-errno $(if $(findstring clang,$(CC)),,-Wno-psabi)
CFLAGS      += $(if $(filter 1,$(ONEDNN)),-DQS_ONEDNN=1)
LDLIBS  += $(shell pkg-config --libs $(PKGS) 2>/dev/null) -lbz2 $(if $(filter 1,$(ONEDNN)),-ldnnl) -fopenmp -lpthread -lm

SRC     := $(CPU_BASE) $(wildcard src/base/*.c kernels/*.c io/*.c offload/*.c src/data/*.c src/data/jinja/*.c src/model/*.c \
                      src/model/parts/*.c src/model/families/*.c \
                      src/step/*.c src/plan/*.c src/options/*.c src/train/*.c src/report/*.c src/commands/*.c)
ISA_OBJ := $(foreach isa,$(ISAS),$(CPU_KERNELS:kernels/cpu/%.c=$(B)/kernels/cpu/$(isa)/%.o))
OBJ     := $(SRC:%.c=$(B)/%.o) $(ISA_OBJ) $(B)/generated/presets.o $(B)/generated/hardware.o $(B)/generated/families.o
TESTS   := $(patsubst tests/unit/%.c,$(B)/tests/%,$(wildcard tests/unit/test_*.c))
TEST_HELPERS := $(patsubst %.c,$(B)/%.o,$(wildcard tests/support/*.c))
BENCHES := $(patsubst bench/%.c,$(B)/bench/%,$(wildcard bench/bench_*.c))

ifeq ($(CUDA),1)
CFLAGS  += -DQS_CUDA=1
-include kernels/cuda/cuda.mk
endif

## all: build the program (default)
all: qlora-stream

qlora-stream: $(B)/qlora-stream
	$(Q)cmp -s $< $@ || cp $< $@

$(B)/qlora-stream: $(B)/src/main.o $(B)/libqs.a
	@echo "  LINK  $@"
	$(Q)$(CC) $(SAN) -o $@ $^ $(LDLIBS)

$(B)/libqs.a: $(OBJ) $(CUDA_OBJ)
	@echo "  AR    $@"
	$(Q)rm -f $@ && ar rcs $@ $^

define isa_rule
$(B)/kernels/cpu/$(1)/%.o: kernels/cpu/%.c
	@mkdir -p $$(@D)
	@echo "  CC    $$< ($(1))"
	$$(Q)$$(CC) $$(CFLAGS) $$(KERNEL_CFLAGS) $$(ISA_$(1)) -DQS_ISA=$(1) -MMD -MP -c -o $$@ $$<
endef
$(foreach isa,$(ISAS),$(eval $(call isa_rule,$(isa))))

$(CPU_BASE:%.c=$(B)/%.o): CFLAGS += -fopenmp

$(B)/%.o: %.c
	@mkdir -p $(@D)
	@echo "  CC    $<"
	$(Q)$(CC) $(CFLAGS) -MMD -MP -c -o $@ $<

# The option files of configs/, as strings in the program.
$(B)/generated/presets.c: src/options/embed.sh $(wildcard configs/*.yaml)
	@mkdir -p $(@D)
	$(Q)sh $< qs_presets $(filter %.yaml,$^) >$@

$(B)/generated/hardware.c: src/options/embed.sh $(wildcard configs/hardware/*.yaml)
	@mkdir -p $(@D)
	$(Q)sh $< qs_hardware_files $(filter %.yaml,$^) >$@

# The list of model families: a file of src/model/families is one.
FAMILIES := $(sort $(notdir $(basename $(wildcard src/model/families/*.c))))
$(B)/generated/families.c: src/model/families/list.sh $(wildcard src/model/families/*.c)
	@mkdir -p $(@D)
	$(Q)sh $< $(FAMILIES) >$@

$(B)/generated/%.o: $(B)/generated/%.c
	$(Q)$(CC) $(CFLAGS) -MMD -MP -c -o $@ $<

include tests/cudasim/cudasim.mk
include tests/fuzz/fuzz.mk
include tests/faults/faults.mk

$(B)/tests/%: tests/unit/%.c $(TEST_HELPERS) $(B)/libqs.a
	@mkdir -p $(@D)
	@echo "  TEST  $@"
	$(Q)$(CC) $(CFLAGS) -MMD -MP -o $@ $< $(TEST_HELPERS) $(B)/libqs.a -lcheck -lsubunit -lrt $(LDLIBS)

# Renders chat templates, for tests/templates/compare.py.
$(B)/tests/render: tests/templates/render.c $(B)/libqs.a
	@mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) -MMD -MP -o $@ $< $(B)/libqs.a $(LDLIBS)

$(B)/bench/%: bench/%.c $(B)/libqs.a
	@mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) -O3 -MMD -MP -o $@ $< $(B)/libqs.a $(LDLIBS)

## unit: build and run the unit tests            (make unit T="aio plan" runs those)
UNIT    := $(if $(T),$(T:%=$(B)/tests/test_%),$(TESTS))
unit: $(UNIT)
	$(Q)QS_TEST_LOGS=$(B)/logs tests/run $(UNIT)

unit-programs: $(TESTS)

## e2e: whole runs of the program                (make ASAN=1 e2e, make e2e E2E=tests/e2e/whole_run.sh)
e2e: $(B)/qlora-stream
	$(Q)QS_PROGRAM=$(B)/qlora-stream QS_TEST_LOGS=$(B)/logs tests/run $(E2E)

## test: everything that must hold: unit tests, whole runs of the program, the printed pages
E2E     := $(wildcard tests/e2e/*.sh)
EVERY   := $(E2E) $(TESTS) $(FAULT_TESTS) $(FUZZ_TARGETS:%=$(B)/fuzz/fuzz_%)
test: qlora-stream docs-check $(EVERY) $(FUZZ_SEEDS)/.made
	$(Q)QS_HARNESS=short QS_FUZZ_SEEDS=$(FUZZ_SEEDS) QS_TEST_LOGS=$(B)/logs tests/run $(EVERY)

## test-arm: cross-build for aarch64 and run operations, golden training and one run under qemu-user: the same bits as here
# Wants gcc-aarch64-linux-gnu, qemu-user and the arm64 packages of the libraries (dpkg --add-architecture arm64).
ARM_LIBRARIES ?= /usr/lib/aarch64-linux-gnu/pkgconfig:/usr/share/pkgconfig
test-arm: qlora-stream
	$(Q)PKG_CONFIG_LIBDIR=$(ARM_LIBRARIES) $(MAKE) --no-print-directory CUDA=0 B=build/aarch64 CC=aarch64-linux-gnu-gcc \
		build/aarch64/qlora-stream build/aarch64/tests/test_ops build/aarch64/tests/test_golden
	$(Q)tests/arm.sh build/aarch64 $(B)/qlora-stream
.PHONY: format test-arm

## lint: layers, banned calls, file sizes, stray paths; and that the lint finds them
lint:
	$(Q)CC="$(CC)" tests/lint/run && CC="$(CC)" tests/lint/test_lint && tests/lint/isa $(filter-out build/asan% build/tsan% build/fuzz%,$(wildcard build/*/kernels/cpu))

## analyse: cppcheck and clang-tidy, with the configurations in tests/lint and .clang-tidy (minutes)
analyse:
	$(Q)tests/lint/analyse

## test-valgrind: a training run under valgrind, on kernels that it knows
test-valgrind: $(B)/qlora-stream
	$(Q)QS_PROGRAM=$(B)/qlora-stream tests/e2e/whole_run.sh valgrind

## format: lay the sources out as .clang-format says (version 14)
format:
	git ls-files '*.c' '*.h' '*.cu' '*.cuh' '*.cpp' | xargs clang-format -i

## benches: only build them
benches: $(BENCHES)

## bench: the standing speed figures of this machine, some minutes
STANDING := $(filter-out $(B)/bench/bench_hidden,$(BENCHES))
bench: $(STANDING)
	$(Q)set -e; for b in $(STANDING); do echo "== $$(basename $$b)"; $$b; echo; done

## bench-hidden: is streaming hidden? A step against its bounds over 64 .. 8192 tokens, half an hour   (DIR=path [TOKENS="64 512"])
bench-hidden: qlora-stream $(B)/bench/bench_hidden
	$(Q)$(B)/bench/bench_hidden $(DIR) $(TOKENS)

## bench-70b: steps of a 70B shape inside 8 GiB, an hour   (make bench-70b DIR=path; 40 GB there)
bench-70b: qlora-stream
	$(Q)bench/bench-70b.sh $(DIR)

## demo: install what is missing, build, fine-tune a tiny model, show text before and after
demo: deps
	@echo "building with $$(nproc) processors: some two minutes on two of them; the demo itself takes another one or two"
	$(Q)$(MAKE) --no-print-directory -j$$(nproc) all
	$(Q)configs/demo/run.sh

## deps: install the libraries through apt, or print the command
deps:
	$(Q).ci/deps

## docs: print docs/options.md from the option table
docs: qlora-stream
	$(Q)./qlora-stream options --as markdown >docs/options.md

docs-check: qlora-stream
	$(Q)./qlora-stream options --as markdown | cmp -s - docs/options.md || { echo "docs/options.md is old: run make docs"; exit 1; }

PREFIX  ?= /usr/local
MAN     := $(DESTDIR)$(PREFIX)/share/man/man1
BASHDIR := $(DESTDIR)$(PREFIX)/share/bash-completion/completions
ZSHDIR  := $(DESTDIR)$(PREFIX)/share/zsh/site-functions
FISHDIR := $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d

## install: program, manual page and completions under PREFIX (/usr/local)   (DESTDIR=path for packages)
install: qlora-stream
	install -D -m 755 qlora-stream $(DESTDIR)$(PREFIX)/bin/qlora-stream
	install -d $(MAN) $(BASHDIR) $(ZSHDIR) $(FISHDIR)
	./qlora-stream options --as man >$(MAN)/qlora-stream.1
	./qlora-stream options --as bash >$(BASHDIR)/qlora-stream
	./qlora-stream options --as zsh >$(ZSHDIR)/_qlora-stream
	./qlora-stream options --as fish >$(FISHDIR)/qlora-stream.fish

## uninstall: remove what install put there
uninstall:
	rm -f $(DESTDIR)$(PREFIX)/bin/qlora-stream $(MAN)/qlora-stream.1 $(BASHDIR)/qlora-stream $(ZSHDIR)/_qlora-stream \
	    $(FISHDIR)/qlora-stream.fish

## deb: a Debian package of the program, build/qlora-stream_VERSION_ARCH.deb
deb: qlora-stream
	rm -rf build/deb
	$(MAKE) --no-print-directory install DESTDIR=build/deb/root PREFIX=/usr
	packaging/deb.sh build/deb
	mv build/deb/*.deb build/

## clean: remove everything that was built
clean:
	rm -rf build qlora-stream

## help: this list
help:
	@grep -hE '^## ' Makefile | sed 's/^## /  /'

.PHONY: install uninstall deb all benches unit unit-programs e2e test analyse test-valgrind lint bench bench-hidden bench-70b demo deps docs docs-check clean help qlora-stream
.PRECIOUS: $(B)/%.o
-include $(shell find $(B) -name '*.d' 2>/dev/null)
