#!/usr/bin/env python3
"""Renders every chat template of a folder with transformers and with this program, over many conversations each, and compares.

    tests/templates/compare.py RENDER FOLDER... [--verbose] [--tokenizers FOLDER...]

RENDER is build/.../tests/render (make build/release/tests/render). FOLDER holds *.jinja files, or tokenizer_config.json files at any depth.
Wanted is the same text, or a refusal by both. With tokenizers (model folders) also the same token ids, the same assistant mask where the
template has {% generation %} blocks, and elsewhere every answer's text among what is trained. Needs transformers and jinja2.
"""
import argparse, datetime, glob, json, os, re, subprocess, sys
import transformers.utils.chat_template_utils as hf

DATE = '2026-01-31'


class FixedDate(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls.fromisoformat(DATE)


hf.datetime = FixedDate

TOOLS = [{'type': 'function', 'function': {
    'name': 'get_weather', 'description': 'Tells the weather of a place, "now" or later',
    'parameters': {'type': 'object', 'properties': {
        'city': {'type': 'string', 'description': 'Name <b>of</b> the city'}, 'days': {'type': 'integer', 'default': 1},
        'unit': {'type': 'string', 'enum': ['°C', '°F']}}, 'required': ['city']}, 'return': {'type': 'string', 'description': 'Words'}}},
    {'type': 'function', 'function': {'name': 'stop', 'description': 'Ends', 'parameters': {'type': 'object', 'properties': {}}}}]
CALL = {'id': 'call12345', 'type': 'function', 'function': {'name': 'get_weather', 'arguments': {'city': 'Zürich', 'days': 3, 'exact': 1.5, 'now': True}}}
CALL_TEXT = {'id': 'abcdefghi', 'type': 'function', 'function': {'name': 'stop', 'arguments': '{"a": [1, 2]}'}}


def u(text): return {'role': 'user', 'content': text}
def a(text, **more): return {'role': 'assistant', 'content': text, **more}
def s(text): return {'role': 'system', 'content': text}
def tool(text, **more): return {'role': 'tool', 'content': text, **more}


CONVERSATIONS = {
    'single': dict(messages=[u('Hello there.'), a('Hi! How can I help?')]),
    'prompt': dict(messages=[u('Hello there.')], add_generation_prompt=True),
    'multi': dict(messages=[u('One?'), a('1'), u('Two?'), a('2'), u('Three?'), a('3')]),
    'multi-prompt': dict(messages=[s('Be brief.'), u('One?'), a('1'), u('Two?')], add_generation_prompt=True),
    'system': dict(messages=[s('You are Pip.\nBe kind.'), u('Who?'), a('Pip.')]),
    'system-only': dict(messages=[s('You are Pip.')]),
    'system-late': dict(messages=[u('Who?'), a('Me.'), s('Now in rhymes.'), u('Who?'), a('Me, not he.')]),
    'tools': dict(messages=[u('Weather?'), a('It is sunny.')], tools=TOOLS),
    'tools-prompt': dict(messages=[s('Help.'), u('Weather?')], tools=TOOLS, add_generation_prompt=True),
    'tool-call': dict(messages=[u('Weather in Zürich?'), a('', tool_calls=[CALL]), tool('{"sky": "blue"}', name='get_weather', tool_call_id='call12345'),
                                a('Blue sky.')], tools=TOOLS),
    'tool-call-text': dict(messages=[u('Stop'), a('I stop.', tool_calls=[CALL_TEXT]), tool('done', name='stop', tool_call_id='abcdefghi'), a('Done.')], tools=TOOLS),
    'tool-calls-two': dict(messages=[s('x'), u('Both'), a(None, tool_calls=[CALL, CALL_TEXT]), tool('17', name='get_weather', tool_call_id='call12345'),
                                     tool('ok', name='stop', tool_call_id='abcdefghi'), a('17, ok'), u('again'), a('no')], tools=TOOLS),
    'tool-result-object': dict(messages=[u('w'), a('', tool_calls=[CALL]), tool({'sky': 'blue', 'deg': 17.0}), a('Blue.')]),
    'reasoning': dict(messages=[u('2+3?'), a('Five.', reasoning_content='Two and three.\nFive.'), u('And 1?'), a('Six.', reasoning_content='Add one.')]),
    'think-in-content': dict(messages=[u('2+3?'), a('<think>\nhm\n</think>\n\nFive.'), u('And 1?'), a('<think>\nwell\n</think>\n\nSix.')]),
    'no-thinking': dict(messages=[u('2+3?')], add_generation_prompt=True, enable_thinking=False),
    'thinking': dict(messages=[u('2+3?')], add_generation_prompt=True, enable_thinking=True, thinking=True, reasoning_effort='high'),
    'empty-content': dict(messages=[u(''), a('')]),
    'empty-system': dict(messages=[s(''), u('a'), a('b')]),
    'spaces': dict(messages=[s('  sys \n'), u('\n  Hello \t\n'), a(' Hi \n\n'), u('x\u00a0'), a('\u3000y')]),
    'unicode': dict(messages=[u('Grüße, 世界 🌍 "quoted" \\n'), a("L'été – ça va? 'yes' \u2028 \x7f")]),
    'marks': dict(messages=[u('{{ x }} {% y %} </s> [INST] <|im_end|>'), a('<|eot_id|> {# z #}')]),
    'assistant-first': dict(messages=[a('Welcome.'), u('Hi'), a('Hello.')]),
    'two-users': dict(messages=[u('One'), u('Two'), a('Three')]),
    'two-answers': dict(messages=[u('One'), a('Two'), a('Three')]),
    'developer': dict(messages=[{'role': 'developer', 'content': 'Be exact.'}, u('pi?'), a('3.14')]),
    'odd-role': dict(messages=[u('a'), {'role': 'critic', 'content': 'bad'}, a('b')]),
    'function-role': dict(messages=[u('a'), {'role': 'function', 'name': 'f', 'content': '1'}, a('b')]),
    'parts': dict(messages=[u([{'type': 'text', 'text': 'Part one. '}, {'type': 'text', 'text': 'Part two.'}]), a([{'type': 'text', 'text': 'Yes.'}])]),
    'names': dict(messages=[dict(u('hi'), name='Ann'), dict(a('ho'), name='bot')]),
    'documents': dict(messages=[u('What does it say?'), a('Nothing.')], documents=[{'title': 'T', 'text': 'Long text'}, {'title': 'U', 'text': 'x', 'n': 2}]),
    'no-messages': dict(messages=[]),
    'no-content': dict(messages=[u('a'), {'role': 'assistant'}]),
}
TOKENS = dict(bos_token='<s>', eos_token='</s>', pad_token='<pad>', unk_token='<unk>')


def templates(folder):
    for path in sorted(glob.glob(folder + '/**/*', recursive=True)):
        if path.endswith('.jinja'):
            yield path, open(path, encoding='utf-8').read()
        elif path.endswith('.json'):
            try:
                value = json.load(open(path, encoding='utf-8')).get('chat_template')
            except (ValueError, AttributeError):
                continue
            for entry in value if isinstance(value, list) else [{'name': '', 'template': value}] if value else []:
                yield f"{path} {entry['name']}".strip(), entry['template']


def theirs(template, job, tokens=TOKENS):
    try:
        job = dict(job)
        text, trained = hf.render_jinja_template([hf._normalize_chat_messages(job.pop('messages'))], chat_template=template,
                                                 return_assistant_tokens_mask=True, **{**tokens, **job})
        return text[0], trained[0]
    except Exception as e:
        return None, f'{type(e).__name__}: {e}'


def variables(job):
    """What transformers hands to a template."""
    job = dict(job)
    messages = hf._alias_reasoning_fields(hf._normalize_chat_messages(job.pop('messages')))
    return {**TOKENS, 'add_generation_prompt': False, 'tools': None, 'documents': None, **job, 'messages': messages}


class Ids:
    """Token ids of every conversation that both can write, by transformers' tokenizer and by ours."""

    def __init__(self, folders, ask):
        from transformers import AutoTokenizer
        self.ask, self.tokenizers = ask, {f: AutoTokenizer.from_pretrained(f) for f in folders}
        self.counts = dict(ids_equal=0, ids_different=0, masks_equal=0, masks_different=0, answers_trained=0, answers_not_trained=0, refused=0)

    def compare(self, path, template, name, job):
        if name in ('marks', 'think-in-content'):
            return  # typed marks stay text here; there they become tokens
        for folder, tok in self.tokenizers.items():
            text, spans = theirs(template, job, {k: v for k, v in tok.special_tokens_map.items() if isinstance(v, str)})
            if text is None:
                continue
            rest = {k: v for k, v in job.items() if k not in ('messages', 'tools', 'documents', 'add_generation_prompt')}
            ours = self.ask(dict(model=folder, template=template, date=DATE, messages=job['messages'], tools=job.get('tools'),
                                 documents=job.get('documents'), prompt=job.get('add_generation_prompt', False), variables=rest))
            if 'error' in ours:
                self.count('refused', path, name, ours['error'])
                continue
            enc = tok(text, add_special_tokens=False, return_offsets_mapping=True)
            same = enc['input_ids'] == ours['ids']
            self.count('ids_equal' if same else 'ids_different', path, name, None if same else (text, enc['input_ids'], ours['ids']))
            if same and not job.get('add_generation_prompt'):
                self.compare_masks(path, template, name, job, tok, text, spans, enc['offset_mapping'], ours)

    def compare_masks(self, path, template, name, job, tok, text, spans, offsets, ours):
        if re.search(r'\{\%-?\s*generation\s*-?\%\}', template):
            mask = [int(any(s < e and a < e and s < b for s, e in spans)) for a, b in offsets]
            # blanks behind the control token that ends an answer are not trained here
            same = all(m == o or (m and not text[a:b].strip()) for m, o, (a, b) in zip(mask, ours['trained'], offsets))
            odd = [(i, text[a:b]) for i, (m, o, (a, b)) in enumerate(zip(mask, ours['trained'], offsets)) if m != o]
            self.count('masks_equal' if same else 'masks_different', path, name, None if same else (odd, text[-200:]))
            return
        learnt = tok.decode([i for i, t in zip(ours['ids'], ours['trained']) if t])
        for m in job['messages']:
            if m['role'] == 'assistant' and isinstance(m.get('content'), str) and m['content'].strip() and m['content'].strip() in text:
                ok = m['content'].strip() in learnt
                self.count('answers_trained' if ok else 'answers_not_trained', path, name, None if ok else (text, learnt))

    def count(self, what, path, name, shown):
        self.counts[what] += 1
        if shown:
            print(f'{path}: {name}: {what}: {str(shown)[:400]}')


def main():
    p = argparse.ArgumentParser()
    p.add_argument('render')
    p.add_argument('folders', nargs='+')
    p.add_argument('--verbose', action='store_true')
    p.add_argument('--tokenizers', nargs='*', default=[])
    o = p.parse_args()
    program = subprocess.Popen([o.render], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding='utf-8')

    def ask(job):
        program.stdin.write(json.dumps(job) + '\n')
        program.stdin.flush()
        return json.loads(program.stdout.readline())

    ids = Ids(o.tokenizers, ask) if o.tokenizers else None
    totals = dict(equal=0, both_refuse=0, only_we_refuse=0, only_they_refuse=0, different=0)
    files = good = 0
    for folder in o.folders:
        for path, template in templates(folder):
            files += 1
            bad = []
            for name, job in CONVERSATIONS.items():
                text, trained = theirs(template, job)
                ours = ask(dict(template=template, variables=variables(job), date=DATE))
                if text is None:
                    kind = 'both_refuse' if 'error' in ours else 'only_they_refuse'
                elif 'error' in ours:
                    kind = 'only_we_refuse'
                else:
                    b = text.encode('utf-8', 'surrogatepass')
                    spans = [[len(text[:x].encode()), len(text[:y].encode())] for x, y in trained]
                    kind = 'equal' if ours['text'] == text and ours['trained'] == spans else 'different'
                totals[kind] += 1
                if ids and kind == 'equal':
                    ids.compare(path, template, name, job)
                if kind in ('equal', 'both_refuse') and not o.verbose:
                    continue
                bad.append(name)
                if len(bad) > 1 and kind != 'different' and not o.verbose:
                    continue # one line a template says enough
                print(f'{path}: {name}: {kind}\n  they: {str(text if text is not None else trained)[:200]!r}\n  we:   {str(ours.get("text", ours))[:200]!r}')
                if kind == 'different':
                    at = next((i for i, (x, y) in enumerate(zip(text, ours['text'])) if x != y), min(len(text), len(ours['text'])))
                    print(f'  from character {at}: they {text[at:at + 60]!r}, we {ours["text"][at:at + 60]!r}; {spans} {ours["trained"]}')
            good += not bad
    print(f'{files} templates, {len(CONVERSATIONS)} conversations each: {good} templates alike in all;', ', '.join(f'{v} {k}' for k, v in totals.items()))
    if ids:
        print(', '.join(f'{v} {k}' for k, v in ids.counts.items()))
        if ids.counts['ids_different'] or ids.counts['masks_different']:
            sys.exit(1)
    sys.exit(1 if totals['different'] or totals['only_they_refuse'] or not files else 0)


main()
