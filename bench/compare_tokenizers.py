#!/usr/bin/env python3
"""Our tokenizer beside the `tokenizers` library: ids, decoded text, and speed.

    compare_tokenizers.py BENCH DIR... [--strings 100000] [--file TEXT] [--rounds 5]

BENCH is build/.../bench/bench_tokenizer; a DIR holds tokenizer.json, or vocab.json and merges.txt. Strings are random: letters of many
scripts, marks, digits, spaces, emoji, special tokens, bytes of merges. Prints differences, and with --file the MB/s of both on one thread, interleaved.
"""
import argparse, os, random, struct, subprocess, sys, tempfile, time

os.environ['TOKENIZERS_PARALLELISM'] = 'false'
os.environ['RAYON_NUM_THREADS'] = '1'
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

RANGES = [(0x20, 0x7f), (0x20, 0x7f), (0xa0, 0x17f), (0x370, 0x3ff), (0x400, 0x4ff), (0x5d0, 0x5ea), (0x600, 0x6ff), (0x900, 0x97f), (0xe00, 0xe7f), (0x1780, 0x17ff),
          (0x300, 0x36f), (0x2000, 0x206f), (0x2190, 0x21ff), (0x3040, 0x30ff), (0x4e00, 0x9fff), (0xac00, 0xd7a3), (0x1f300, 0x1faff), (0x1d400, 0x1d4ff), (0xfe00, 0xfe0f),
          (0x1f1e6, 0x1f1ff), (0xff00, 0xff60), (0x2581, 0x2582)]
PIECES = ["'s", "'LL", "'re", " the", " and", "ing", "1234567", "\r\n", "\n\n\n", "\t", "   ", " \n", "don't", "https://a.b/c?d=e", "...", "--", "Straße", "ﬁ", "İ", "é", "é", "　", "\u200b", "\u200d", "def f(x):\n    return x\n"]


def strings(n, specials, seed=1):
    r = random.Random(seed)
    for _ in range(n):
        out = []
        lo, hi = r.choice(RANGES)
        for _ in range(r.choice([0, 1, 2, 5, 10, 20, 40])):
            k = r.random()
            if k < .5:
                out.append(''.join(chr(r.randrange(lo, hi)) for _ in range(r.randrange(1, 8))))
            elif k < .65:
                out.append(r.choice(PIECES))
            elif k < .8:
                out.append(' ' * r.choice([1, 1, 1, 2, 5]))
            elif k < .85 and specials:
                out.append(r.choice(specials))
            else:
                lo, hi = r.choice(RANGES)
                out.append(chr(r.randrange(lo, hi)))
        yield ''.join(out)


def theirs(path, alone):
    """The library's tokenizer, and the directory that ours reads: of a tokenizer.json that file alone, for both to follow it and nothing beside it."""
    if os.path.exists(path + '/tokenizer.json'):
        os.symlink(os.path.abspath(path + '/tokenizer.json'), alone + '/tokenizer.json')
        return Tokenizer.from_file(path + '/tokenizer.json'), alone
    if os.path.exists(path + '/tokenizer_config.json'):
        from transformers import AutoTokenizer
        return AutoTokenizer.from_pretrained(path).backend_tokenizer, path
    k = Tokenizer(models.BPE.from_file(path + '/vocab.json', path + '/merges.txt'))
    k.pre_tokenizer, k.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    k.add_special_tokens(['<|endoftext|>'])
    return k, path


def answers(bench, path, texts):
    with tempfile.TemporaryDirectory() as d:
        with open(d + '/in', 'wb') as f:
            for t in texts:
                b = t.encode()
                f.write(struct.pack('<I', len(b)) + b)
        subprocess.run([bench, path, '--answers', d + '/in', d + '/out'], check=True)
        data = open(d + '/out', 'rb').read()
    at, out = 0, []
    for _ in texts:
        n, = struct.unpack_from('<I', data, at)
        ids = list(struct.unpack_from('<%dI' % n, data, at + 4))
        at += 4 + 4 * n
        m, = struct.unpack_from('<I', data, at)
        out.append((ids, data[at + 4:at + 4 + m].decode()))
        at += 4 + m
    return out


def main():
    p = argparse.ArgumentParser()
    p.add_argument('bench'); p.add_argument('dirs', nargs='+'); p.add_argument('--strings', type=int, default=100000)
    p.add_argument('--file'); p.add_argument('--rounds', type=int, default=5)
    a = p.parse_args()
    bad = 0
    for path in a.dirs:
        alone = tempfile.TemporaryDirectory()
        k, own = theirs(path, alone.name)
        k.no_truncation()
        specials = [t.content for t in k.get_added_tokens_decoder().values()]
        texts = list(strings(a.strings, specials))
        encoded = decoded = 0
        for text, (ids, back) in zip(texts, answers(a.bench, own, texts)):
            want = k.encode(text, add_special_tokens=False).ids
            if ids != want:
                encoded += 1
                if encoded <= 3:
                    print('  ', repr(text)[:160], '\n     ours  ', ids[:40], '\n     theirs', want[:40])
            elif back != k.decode(ids, skip_special_tokens=False):
                decoded += 1
                if decoded <= 3:
                    print('   decoded', repr(text)[:100], '\n     ours  ', repr(back)[:160], '\n     theirs', repr(k.decode(ids, skip_special_tokens=False))[:160])
        print(f'{path}: {len(texts)} strings, {encoded} encoded otherwise, {decoded} decoded otherwise')
        bad += encoded + decoded
        if a.file:
            lines = open(a.file, encoding='utf-8', newline='').read().splitlines(keepends=True)
            size, ours, other = sum(len(l.encode()) for l in lines), 0, 0
            for _ in range(a.rounds):
                ours = max(ours, float(subprocess.run([a.bench, own, a.file, '1'], capture_output=True, text=True, check=True).stdout.split()[0]))
                start = time.perf_counter()
                for l in lines:
                    k.encode(l, add_special_tokens=False)
                other = max(other, size * 1e-6 / (time.perf_counter() - start))
            print(f'   speed on {os.path.basename(a.file)}: ours {ours:.2f} MB/s, tokenizers {other:.2f} MB/s, ratio {ours / other:.2f}')
    sys.exit(bad != 0)


main()
