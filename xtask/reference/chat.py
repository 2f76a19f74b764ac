"""Conversations put down by transformers: templates of our own in which the constructs of real ones occur.

    python chat.py OUT [TEMPLATE.jinja …]

OUT is a JSON file: {"tokens": {…}, "templates": [text, …], "cases": [{template, messages, values, answer, text or error}, …]}.
"""

import json
import sys

from transformers.utils.chat_template_utils import render_jinja_template

TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}

# Turns between marks, with a default system text; whitespace by `trim_blocks` and `lstrip_blocks`.
MARKS = """\
{% for message in messages %}
    {% if loop.first and message['role'] != 'system' %}
<|start|>system
Be brief.<|end|>
    {% endif %}
<|start|>{{ message.role }}
{{ message['content'] | trim }}<|end|>
{% endfor %}
{% if add_generation_prompt %}
<|start|>assistant
{% endif %}
"""

# Roles that alternate, the system text inside the first user's turn, an end token behind each answer.
PAIRS = """\
{{- bos_token }}
{%- if messages[0]['role'] == 'system' %}
    {%- set system = messages[0]['content'] %}
    {%- set turns = messages[1:] %}
{%- else %}
    {%- set turns = messages %}
{%- endif %}
{%- for turn in turns %}
    {%- if (turn['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('roles must alternate: user, assistant, …') }}
    {%- endif %}
    {%- if turn['role'] == 'user' %}
        {%- if loop.last and system is defined %}
            {{- '[ASK] ' + system + '\\n\\n' + turn['content'] + ' [/ASK]' }}
        {%- else %}
            {{- '[ASK] ' ~ turn['content'] ~ ' [/ASK]' }}
        {%- endif %}
    {%- elif turn.role == 'assistant' %}
        {%- generation %}
        {{- ' ' + turn.content.strip() + eos_token }}
        {%- endgeneration %}
    {%- else %}
        {{- raise_exception('no such role: ' + turn.role) }}
    {%- endif %}
{%- endfor %}"""

# What was thought before the last question is left out; a namespace, a loop backwards, methods of Python's strings.
THOUGHTS = """\
{%- set ns = namespace(last=-1, done=false) -%}
{%- for message in messages[::-1] -%}
  {%- set index = (messages | length - 1) - loop.index0 -%}
  {%- if not ns.done and message.role == "user" and message.content is string and not (message.content.startswith('<note>') and message.content.endswith('</note>')) -%}
    {%- set ns.last = index -%}
    {%- set ns.done = true -%}
  {%- endif -%}
{%- endfor -%}
{%- for message in messages -%}
  {%- set content = message.content -%}
  {%- if message.role == "assistant" and '</think>' in content -%}
    {%- set thought = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') -%}
    {%- set content = content.split('</think>')[-1].lstrip('\\n') -%}
    {%- if loop.index0 > ns.last and thought -%}
      {%- set content = '<think>\\n' ~ thought ~ '\\n</think>\\n' ~ content -%}
    {%- endif -%}
  {%- endif -%}
<{{ message.role.upper() }}>{{ content }}</{{ message.role.capitalize() }}>
{% endfor -%}
{%- if add_generation_prompt -%}
<ASSISTANT>{{ '<think>\\n\\n</think>' if enable_thinking is defined and enable_thinking is false else '' }}
{%- endif -%}
"""

# A macro, JSON, loop controls, and values that the caller gives.
VALUES = """\
{%- macro line(name, value) -%}
{{ name }}={{ value | tojson }};
{%- endmacro -%}
{{ line("topic", topic | default("none")) }}
{{ line("facts", facts) }}
{{ facts | tojson(indent=2) }}
{%- for key, value in facts.items() %}
 {{ key }}: {{ value if value is string else value | string }}
{%- endfor %}
{%- for message in messages %}
{%- if message.role == 'skip' %}{% continue %}{% endif %}
{%- if message.role == 'stop' %}{% break %}{% endif %}

{{ loop.index }}/{{ loop.length }} {{ message.role | title }}: {{ message.content | replace("&", "and") | upper }}
{%- endfor %}
{%- set names = messages | map(attribute='role') | list %}

{{ names | join(', ') }}; {{ names | unique | list | length }}; {{ messages | selectattr('role', 'equalto', 'user') | list | length }}
{%- if tools is none %} no tools{% endif %}
{%- if documents %} documents{% endif %}
"""

# What Python has: its tests, methods, slices and line breaks.
PYTHON = """\
{% for message in messages %}\r
{%- if message.role is sequence and message is iterable and message is mapping %}{% raw %}
{{ raw }}
{% endraw %}{{ message.role }}{% raw %}|{% endraw %}
{% endif %}\r
[{{ message.content.removeprefix('<think>').removesuffix('two').partition('\\n')[0].rsplit(' ', 1)[-1] }}]
{{ message.content.rpartition('o')[2] }}{{ message.content.split()[::-1] }}{{ message.content.rsplit('o') }}
{% endfor %}
{% if tools is iterable %}tools{% endif %}{{ 5 is sequence }}{{ none is sequence }}{{ {'a': none, 'b': [true, 1.5, "it's"]} }}
{{ facts | tojson(sort_keys=true, ensure_ascii=true, separators=(',', ':')) }}
{{ messages[9] is defined }}{{ messages[0].more }}{{ messages[0].get('more', 7) }}{{ '{}:{}'.format(1, 'a') }}
"""


def turns(*pairs):
    return [{"role": role, "content": content} for role, content in pairs]


CONVERSATIONS = [
    turns(("user", "Hello")),
    turns(("system", "Answer in German."), ("user", "  Good morning \n"), ("assistant", " Guten Morgen. "), ("user", "And at night?")),
    turns(("user", "你好 & <b>"), ("assistant", "<think>\nshort\n</think>\n\n你好！"), ("user", "<note>x</note>"), ("assistant", "<think>a</think>b")),
    turns(("user", "one"), ("user", "two")),
    turns(("user", "q"), ("skip", "left out"), ("stop", "the end"), ("user", "never")),
]
VALUE_SETS = [
    {},
    {"enable_thinking": False, "topic": "a \"quote\" and 'one'", "facts": {"z": 1, "a": [1, 2.5, None, True], "ü": {"<&>": "é"}}},
]


def cases(templates):
    for number, template in enumerate(templates):
        for messages in CONVERSATIONS:
            for values in VALUE_SETS:
                given = {"facts": {}, **values}
                for answer in (False, True):
                    case = {"template": number, "messages": messages, "values": given, "answer": answer}
                    try:
                        rendered, _ = render_jinja_template(
                            conversations=[messages],
                            chat_template=template,
                            add_generation_prompt=answer,
                            **TOKENS,
                            **given,
                        )
                        case["text"] = rendered[0]
                    except Exception as error:
                        case["error"] = str(error)
                    yield case


if __name__ == "__main__":
    out, *others = sys.argv[1:]
    templates = [open(path).read() for path in others] or [MARKS, PAIRS, THOUGHTS, VALUES, PYTHON]
    found = {"tokens": TOKENS, "templates": templates, "cases": list(cases(templates))}
    json.dump(found, open(out, "w"), ensure_ascii=False, indent=1)
