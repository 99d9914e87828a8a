from __future__ import annotations

import re
from dataclasses import fields, replace
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from bot.documents import Document, render
from bot.documents.facts import Asked, Decided, Proof, Reached, facts
from bot.domain.alert import Resource, Sev
from bot.domain.events import (
    Acknowledged,
    ActionSettled,
    Aftermath,
    NoteAdded,
    RoleTaken,
    SeverityChanged,
    Standing,
    TaskAdded,
    TaskChanged,
    TextRef,
    UpdateGiven,
    Use,
    Verb,
    Verified,
)
from bot.domain.outcome import Done, Failed, Grade, Pending
from bot.errors import ConfigError
from tests.domain.incidents import (
    AGENT,
    ALERT,
    HOSTILE,
    REVOKED,
    SHADOWED,
    START,
    STORIES,
    Story,
    begin,
    contained,
    minutes,
    partial,
)

TEMPLATES = Path(__file__).parents[2] / "templates"
KINDS = sorted(path.name.removesuffix(".md.j2") for path in TEMPLATES.glob("*.md.j2"))


def draft(kind: str, story: Story, text: str | None = "The alert's text", templates: Path = TEMPLATES) -> Document:
    return render(kind, story.incident, story.entries, lambda _: text, templates)


@pytest.mark.parametrize("name", STORIES)
@pytest.mark.parametrize("kind", KINDS)
def test_every_template_renders_for_every_incident(kind: str, name: str) -> None:
    document = draft(kind, STORIES[name]())
    assert document.title
    assert document.missing
    assert document.markdown.startswith("# ")
    assert document.markdown.count("[to be completed by") >= len(document.missing)
    assert "{{" not in document.markdown
    assert "None" not in document.markdown


def test_the_postmortem_proves_containment_and_names_what_is_not() -> None:
    text = draft("postmortem", contained()).markdown
    assert "| `shadow` | `agent:agent-7` | verified-effect | verified-effect | yes | shadow" in text
    assert "- Nothing that the record knows of." in text
    assert "| Time to contain | 15 min | 6.4 s | met |" in text

    text = draft("postmortem", partial()).markdown
    assert "| verified-effect | verified-config | no |" in text
    assert "agent:agent-7: shadow is only verified-config, verified-effect was required" in text
    assert "revoke\\_vault was not done and what it cuts may be alive" in text
    assert "iam-role:agent-7: quarantine is refused, refused by infra-1" in text
    assert "A person took the containment as it was" in text


def test_what_is_alive_is_said_even_where_a_step_is_done() -> None:
    story = begin()
    story.settle("shadow", SHADOWED)
    story.settle("revoke_vault", Done(Grade.CONFIG, {**REVOKED.evidence, "alive": ["vault-lease:x"], "sts_leases": 2}))
    text = draft("postmortem", story).markdown
    assert "- vault-entity:agent-7: alive: vault-lease:x" in text
    assert "- vault-entity:agent-7: sts leases: 2" in text
    customer = draft("customer-initial", story).markdown
    assert "have verified that" not in customer


def test_what_was_alive_until_a_time_now_past_is_over() -> None:
    until = START + minutes(5)
    story = begin().settle("shadow", SHADOWED)
    evidence = {"alive_until": until.isoformat(), "sessions": "those started before may live on"}
    story.settle("revoke_vault", Done(Grade.CONFIG, evidence))
    assert "alive until: 2025-03-04T12:05:00" in "\n".join(facts(story.incident, story.entries).remains)
    story.wait(minutes(6)).happen(Acknowledged("responder-1", "slack"))
    assert facts(story.incident, story.entries).remains == (
        "vault-entity:agent-7: sessions: those started before may live on",
    )


def test_approvals_say_who_when_and_what_exactly() -> None:
    story = STORIES["approved"]()
    text = draft("postmortem", story).markdown
    assert "`security-2` (security\\_team) approved at 2025-03-04 12:01:30 UTC" in text
    assert story.incident.steps["quarantine"].hash in text
    assert "Was a human approval bypassed or misapplied? **[to be completed by Security Ops" in text


def test_the_customer_notice_says_only_what_is_verified() -> None:
    verified = draft("customer-initial", contained()).markdown
    assert "have verified that the restrictions are in force since 2025-03-04 12:00:06 UTC" in verified
    for name in ("partial", "no_playbook", "declared", "unknown_agent"):
        assert "have verified that" not in draft("customer-initial", STORIES[name]()).markdown, name


@pytest.mark.parametrize("name", STORIES)
def test_the_customer_notice_has_no_internal_identifier(name: str) -> None:
    story = STORIES[name]()
    text = draft("customer-initial", story, HOSTILE).markdown
    people = {contact.person for contacts in story.incident.roster.values() for contact in contacts}
    inside = {"INC-7", "SEV1", "agent-7", "agent-x", "policy-engine", "prod-change", "vault", "i-0abc", *people}
    assert not {each for each in inside if each in text}


def test_a_customer_template_cannot_even_name_the_incident(tmp_path: Path) -> None:
    (tmp_path / "customer-update.md.j2").write_text("# Update\n\n{{ incident.id }}\n")
    with pytest.raises(ConfigError, match=r"customer-update\.md\.j2:3: 'incident' is undefined\. .*only `public`"):
        draft("customer-update", contained(), templates=tmp_path)


def test_missing_is_listed_once_with_its_role(tmp_path: Path) -> None:
    (tmp_path / "x.md.j2").write_text(
        '# X\n{{ todo("product_owner", "impact") }} {{ todo("dpo", "data") }} {{ todo("product_owner", "impact") }}\n'
    )
    document = draft("x", contained(), templates=tmp_path)
    assert document.missing == ("product_owner: impact", "dpo: data")
    assert "**[to be completed by Product Owner: impact]** **[to be completed by DPO: data]**" in document.markdown


def test_erased_text_prints_erased() -> None:
    story = contained().happen(NoteAdded("responder-1", TextRef("note", "d")))
    text = draft("postmortem", story, None).markdown
    assert "responder-1 noted: “erased”" in text
    assert "“erased”" in draft("internal-brief", story, None).markdown


def _hostile_story() -> Story:
    """Everything that others write is hostile."""
    resource = Resource(HOSTILE, HOSTILE)
    alert = replace(
        ALERT, rule=HOSTILE, source=HOSTILE, product=HOSTILE, resources=(resource,), labels={HOSTILE: HOSTILE}
    )
    agent = replace(AGENT, name=HOSTILE, owner=HOSTILE, team=HOSTILE)
    story = begin(alert=alert, agent=agent, why=HOSTILE, type=f"type {HOSTILE}")
    story.settle("shadow", Failed(False, HOSTILE))
    story.settle("revoke_vault", Done(Grade.CONFIG, {HOSTILE: HOSTILE, "alive": [HOSTILE], "why": HOSTILE}))
    story.happen(Acknowledged(HOSTILE, "slack")).happen(NoteAdded(HOSTILE, TextRef("note", "d")))
    return story


@pytest.mark.parametrize("kind", KINDS)
def test_hostile_values_are_only_ever_text(kind: str) -> None:
    document = draft(kind, _hostile_story(), f"{HOSTILE}\n\n# owned\n\n<script>x</script>")
    html = MarkdownIt("commonmark", {"html": True}).enable("table").render(document.markdown)
    elements = set(re.findall(r"<\s*([a-zA-Z!][a-zA-Z0-9]*)", html))
    allowed = {"h1", "h2", "p", "ul", "li", "strong", "code", "table", "thead", "tbody", "tr", "th", "td"}
    assert elements <= allowed
    assert "49" not in re.findall(r"\b49\b", document.markdown)
    for dead in ("{{", "://", "@here", "<!channel>", "<script"):
        assert dead not in document.markdown
    assert not any(heading in html for heading in ("<h1>owned", "<h2>owned"))
    rows = re.findall(r"<tr>(.*?)</tr>", html, re.DOTALL)
    assert all(row.count("<td") in (0, 2, 3, 4, 5, 6) for row in rows)


def test_hostile_text_is_no_template() -> None:
    attack = "{{ incident.__class__.__mro__ }}{% for x in range(99999) %}{% endfor %}"
    text = draft("postmortem", contained(), attack).markdown
    assert "\\{\\{ incident.\\_\\_class\\_\\_" in text


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("# A\n\n{{ incident.custmer }}\n", r"x\.md\.j2:3: .*no attribute 'custmer'"),
        ("# A\n{% if %}\n", r"x\.md\.j2:2: Expected an expression"),
        ("# A\n{{ nothing }}\n", r"x\.md\.j2:2: 'nothing' is undefined\. What templates can name"),
        ("# A\n\n\n{{ incident.__class__.__mro__ }}\n", r"x\.md\.j2:4: .*unsafe"),
        ("# A\n{{ lines.append(1) }}\n", r"x\.md\.j2:2: "),
        ("# A\n{{ incident.id | nonsense }}\n", r"x\.md\.j2:2: No filter named 'nonsense'"),
        ("# A\n{{ 1 / 0 }}\n", r"x\.md\.j2:2: division by zero"),
        ('{% include "../secret" %}', r"there is no such template"),
    ],
)
def test_an_error_names_the_template_and_its_line(tmp_path: Path, template: str, words: str) -> None:
    (tmp_path / "x.md.j2").write_text(template)
    with pytest.raises(ConfigError, match=words):
        draft("x", contained(), templates=tmp_path)


def test_a_missing_template_lists_those_there_are() -> None:
    with pytest.raises(ConfigError, match=r"There are: containment, customer-initial, internal-brief, postmortem"):
        draft("regulator", contained())


def test_the_reference_names_every_field() -> None:
    page = (TEMPLATES.parent / "docs/reference/templates.md").read_text()
    words = set(re.findall(r"\w+", page))
    rows = {field.name for kind in (Asked, Decided, Reached) for field in fields(kind)}
    assert rows | {field.name for field in fields(Proof)} - {"contains", "answers"} <= words


def test_the_postmortem_says_who_did_what_and_what_is_left_to_do() -> None:
    story = contained()
    ref = TextRef("text-task", "d")
    story.happen(SeverityChanged(Sev.SEV2, "commander-1")).happen(RoleTaken("scribe", "responder-2", "responder-2"))
    for task in ("T1", "T2"):
        story.happen(TaskAdded(task, ref, "responder-2", None, "commander-1"))
    story.happen(TaskChanged("T1", "responder-2", done=True)).happen(UpdateGiven("commander-1", ref, ref, ref))
    text = draft("postmortem", story).markdown
    assert "- scribe: `responder-2`" in text
    assert "Severity: SEV1 at" in text
    assert "SEV2 at" in text
    assert text.count("| OPEN |") == 1
    assert "done by `responder-2`" in text
    assert "- Update at" in text


def test_a_step_that_goes_on_shows_the_last_that_was_heard_of_it() -> None:
    story = begin()
    away = Pending(story.now + minutes(1), {}, "connection refused", unavailable=True)
    story.settle("revoke_vault", away)
    found = facts(story.incident, story.entries)
    proof = next(one for one in found.proofs if one.step == "revoke_vault")
    assert proof.read_back.endswith("last heard: connection refused")
    assert not proof.holds
    assert any("revoke_vault is running" in one and "connection refused" in one for one in found.remains)
    assert "last heard: connection refused" in draft("postmortem", story).markdown


def test_the_postmortem_counts_pages_that_may_repeat_and_asks_once_for_each_thing() -> None:
    text = draft("postmortem", partial()).markdown
    assert re.search(r"2 of \d+ pages and notices may repeat an earlier one", text)
    assert "may repeat an earlier one: nobody" not in draft("postmortem", contained()).markdown
    assert text.count("| Verify or cut: ") > 1
    assert text.count("an owner for each thing that is unverified") == 1


def test_the_containment_report_tells_every_look_and_what_was_used_after_the_cut() -> None:
    story = contained()
    step, run = next((id, run) for id, run in story.incident.steps.items() if run.holding)
    call, at = next(iter(run.calls)), story.now
    use = Aftermath(at, at, 1, (Use(at, "GetObject", "ASIA1"),))
    story.happen(Verified("t/2.0", step, call, Standing.STANDS, Grade.EFFECT))
    story.happen(Verified("t/3.0", step, call, Standing.LOST, why="the policy is gone"))
    story.happen(ActionSettled("t/3.0", step, call, Verb.RUN, Done(Grade.EFFECT)))
    story.happen(Verified("t/4.0", step, call, Standing.STANDS, Grade.EFFECT, after=use))
    text = draft("containment", story).markdown
    for said in ("stands, verified", "lost: the policy is gone", "USED once after the cut", "GetObject"):
        assert said in text
    assert "NOT contained" in text
