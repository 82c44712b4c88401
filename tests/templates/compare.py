#!/usr/bin/env python3
"""Renders every chat template of a folder with transformers and with this program, over many conversations each, and compares.

    tests/templates/compare.py RENDER FOLDER... [--verbose] [--tokenizers FOLDER]

RENDER is build/.../tests/render (make build/release/tests/render). FOLDER holds *.jinja files, or tokenizer_config.json files at any depth.
Wanted is the same text, or a refusal by both. Needs transformers and jinja2.
"""
import argparse, datetime, glob, json, os, subprocess, sys
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


def theirs(template, job):
    try:
        job = dict(job)
        text, trained = hf.render_jinja_template([hf._normalize_chat_messages(job.pop('messages'))], chat_template=template,
                                                 return_assistant_tokens_mask=True, **{**TOKENS, **job})
        return text[0], trained[0]
    except Exception as e:
        return None, f'{type(e).__name__}: {e}'


def variables(job):
    """What transformers hands to a template."""
    job = dict(job)
    messages = hf._alias_reasoning_fields(hf._normalize_chat_messages(job.pop('messages')))
    return {**TOKENS, 'add_generation_prompt': False, 'tools': None, 'documents': None, **job, 'messages': messages}


def main():
    p = argparse.ArgumentParser()
    p.add_argument('render')
    p.add_argument('folders', nargs='+')
    p.add_argument('--verbose', action='store_true')
    o = p.parse_args()
    program = subprocess.Popen([o.render], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding='utf-8')
    totals = dict(equal=0, both_refuse=0, only_we_refuse=0, only_they_refuse=0, different=0)
    files = good = 0
    for folder in o.folders:
        for path, template in templates(folder):
            files += 1
            bad = []
            for name, job in CONVERSATIONS.items():
                text, trained = theirs(template, job)
                program.stdin.write(json.dumps(dict(template=template, variables=variables(job), date=DATE)) + '\n')
                program.stdin.flush()
                ours = json.loads(program.stdout.readline())
                if text is None:
                    kind = 'both_refuse' if 'error' in ours else 'only_they_refuse'
                elif 'error' in ours:
                    kind = 'only_we_refuse'
                else:
                    b = text.encode('utf-8', 'surrogatepass')
                    spans = [[len(text[:x].encode()), len(text[:y].encode())] for x, y in trained]
                    kind = 'equal' if ours['text'] == text and ours['trained'] == spans else 'different'
                totals[kind] += 1
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
    sys.exit(1 if totals['different'] or totals['only_they_refuse'] or not files else 0)


main()
