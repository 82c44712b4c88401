# code.awk - checks of C and CUDA sources that need more than a line: comments and strings are taken out first.
#
#   layers      who may include whom (docs/architecture.md): a folder sees itself and what `sees` lists for it
#   calls       functions that are banned, or belong to one place
#   guards      a header's guard is its path, and its first line says what it is
#
# A line that must break a rule says so: /* lint: allow free, this memory is the library's */
# Run by tests/lint/run with the files of a tree, from its root; prints file:line: what is wrong.

BEGIN {
    sees["src/base"] = ""
    sees["kernels"] = "src/base"
    sees["io"] = "src/base"
    sees["offload"] = "src/base io"            # and kernels/device.h, the only part of kernels that moves bytes
    sees["src/data"] = "src/base io"
    sees["src/model"] = "src/base kernels io offload src/data"
    sees["src/options"] = "src/base kernels io offload src/data" # it names their choices
    sees["src/step"] = "src/base kernels io offload src/data src/model src/options"
    sees["src/plan"] = sees["src/step"] " src/step"
    sees["src/train"] = sees["src/plan"] " src/plan"
    sees["src/report"] = sees["src/train"] " src/train"
    sees["src/commands"] = sees["src/report"] " src/report"
    sees["src/main.c"] = "src/base src/commands"

    # Where a call may stand: "" nowhere, otherwise prefixes of paths.
    for (i = split("strcpy strcat sprintf vsprintf gets strtok atoi atol atof rand srand random drand48 system popen tmpnam alloca", names, " "); i; i--)
        may[names[i]] = ""
    may["exit"] = may["_exit"] = may["abort"] = "src/main.c src/base/"
    may["getenv"] = "src/main.c src/options/ src/base/terminal.c kernels/cpu/device_cpu.c"
    # Functions of libm differ in the last place from machine to machine: src/base/maths.h and kernels/cpu/vec_math.h decide bits.
    for (i = split("exp expf exp2 exp2f log logf log2 log2f log1p pow powf sin sinf cos cosf tan tanh tanhf erf erff erfc erfcf", names, " "); i; i--)
        may[names[i]] = "kernels/cuda/ src/data/jinja/ src/report/ src/commands/ src/train/metrics.c src/train/progress.c"
    for (i = split("malloc calloc realloc free strdup strndup asprintf", names, " "); i; i--) may[names[i]] = "src/base/memory.c"
}

FNR == 1 {
    in_comment = 0
    folder = layer(FILENAME)
    product = folder != "" || FILENAME == "src/main.c"
    if (FILENAME ~ /\.h$/) {
        name = FILENAME
        sub(/.*\//, "", name)
        if (index($0, "/* " name " - ") != 1) complain("a header begins with \"/* " name " - what it is\"")
        guard = FILENAME
        sub(/^src\//, "", guard)
        gsub(/[^A-Za-z0-9]/, "_", guard)
        guard = "QS_" toupper(guard)
        has_guard = 0
    }
}

product && FILENAME ~ /\.h$/ && /^#ifndef QS_/ && !has_guard {
    has_guard = 1
    if ($2 != guard) complain("the guard is " $2 ", its path makes it " guard)
}

{
    if (/TODO|FIXME|(^|[^X])XXX([^X]|$)/ && !/lint: allow/) complain("unfinished work belongs into an issue: " $0)
    code = strip($0)
}

product && /^[ \t]*#[ \t]*include[ \t]*"/ {
    target = $0
    sub(/^[^"]*"/, "", target)
    sub(/".*/, "", target)
    check_include(target)
}

product && !/lint: allow/ {
    rest = code
    while (match(rest, /[A-Za-z_][A-Za-z_0-9]*[ \t]*\(/)) {
        word = substr(rest, RSTART, RLENGTH)
        sub(/[ \t]*\($/, "", word)
        before = RSTART > 1 ? substr(rest, RSTART - 1, 1) : ""
        # Not a call of the library's function: a member (x->free(...)), a declaration of a pointer (*free)(...).
        if ((word in may) && before != "." && before != ">" && before != "*" && !within(FILENAME, may[word]))
            complain(word "() is not used here" (may[word] ? "; only in " may[word] : ""))
        rest = substr(rest, RSTART + RLENGTH)
    }
}

function complain(text) { printf "%s:%d: %s\n", FILENAME, FNR, text }

function within(path, prefixes,   n, i, list) {
    n = split(prefixes, list, " ")
    for (i = 1; i <= n; i++) if (index(path, list[i]) == 1) return 1
    return 0
}

# The folder of the table that a path lies in, or "".
function layer(path,   parts) {
    if (path == "src/main.c") return path
    split(path, parts, "/")
    if (parts[1] == "src" && (("src/" parts[2]) in sees)) return "src/" parts[2]
    return parts[1] in sees ? parts[1] : ""
}

function check_include(target,   to) {
    to = layer(target)
    if (target !~ /\//) { complain("includes are written from the root: \"" target "\""); return }
    if (to == "") { complain("\"" target "\" is in no layer of the program"); return }
    if (target ~ /^kernels\/(cpu|cuda)\// && substr(target, 1, 12) != substr(FILENAME, 1, 12))
        complain("only a backend's own files include \"" target "\"")
    if (to == folder) return
    if (folder == "offload" && target == "kernels/device.h") return
    if (index(" " sees[folder] " ", " " to " ") == 0) complain(folder " must not include " to " (\"" target "\")")
}

# The line without comments and with empty strings; keeps track of comments over several lines.
function strip(line,   out, i, n, c, two, quote) {
    n = length(line)
    out = ""
    for (i = 1; i <= n; i++) {
        c = substr(line, i, 1)
        two = substr(line, i, 2)
        if (in_comment) { if (two == "*/") { in_comment = 0; i++ } continue }
        if (two == "/*") { in_comment = 1; i++; continue }
        if (two == "//") break
        if (c == "\"" || c == "'") {
            for (quote = c; ++i <= n && (c = substr(line, i, 1)) != quote;) if (c == "\\") i++
            out = out quote quote
            continue
        }
        out = out c
    }
    return out
}
