#!/bin/sh
# Prints a C file that lists the model families of the given files: list.sh llama mistral > families.c
echo '/* Generated from src/model/families/ by its list.sh. */'
echo '#include "src/model/families/family.h"'
for name in "$@"; do echo "extern const qs_family qs_family_$name[];"; done
echo 'const qs_family *const qs_families[] = {'
for name in "$@"; do echo "    qs_family_$name,"; done
echo '    NULL};'
