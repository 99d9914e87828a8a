"""Put an agent under Firedoor: its mode, its lease, and a gate before its tools. Standard library only.

    from bot.agent import Firedoor

    agent = Firedoor("https://firedoor.example.com", "agent-7/pod-1", os.environ["FIREDOOR_KEY"])

    @agent.tool(effects=True)
    def send_mail(to: str, text: str) -> str: ...

    agent.start()

docs/how-to/put-an-agent-under-firedoor.md tells the rest.
"""

from bot.agent.client import Firedoor, Status
from bot.agent.enrolment import Enrolled, NotEnrolled, enrol
from bot.agent.standing import Mode
from bot.agent.tools import Disabled, NotAllowed, Refused, Shadowed

__all__ = [
    "Disabled",
    "Enrolled",
    "Firedoor",
    "Mode",
    "NotAllowed",
    "NotEnrolled",
    "Refused",
    "Shadowed",
    "Status",
    "enrol",
]
