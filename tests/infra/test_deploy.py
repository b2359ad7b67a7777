"""The deployment, driven as a person does, with a stand-in for AWS's command line."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.infra.templates import ROOT

CHANGE_SET = "arn:aws:cloudformation:eu-central-1:000000000000:changeSet/awscli-1/0123"
PLANNED = f"""
Waiting for changeset to be created..
Changeset created successfully. Run the following command to review changes:
aws cloudformation describe-change-set --change-set-name {CHANGE_SET}
"""
NOTHING = "\nWaiting for changeset to be created..\n\nNo changes to deploy. Stack s is up to date\n"
ADDED = "Add\t-\tAWS::DynamoDB::Table\tCodesTable\n"
REMOVED = "Remove\t-\tAWS::DynamoDB::Table\tUsersTable\n"
REPLACED = "Modify\tTrue\tAWS::Cognito::UserPool\tUserPool\n"
MODIFIED = "Modify\tFalse\tAWS::Lambda::Function\tAPIHandler\n"

AWS = f"""#!{sys.executable}
import json, os, pathlib, sys
told = json.loads(os.environ["TOLD"])
with open(os.environ["CALLED"], "a") as called:
    called.write(json.dumps(sys.argv[1:]) + "\\n")
given = " ".join(sys.argv[1:])
if "--output-template-file" in sys.argv:
    pathlib.Path(sys.argv[sys.argv.index("--output-template-file") + 1]).write_text("{{}}")
for words, (status, text) in told.items():
    if all(word in given for word in words.split()):
        print(text, end="")
        sys.exit(status)
"""


@dataclass
class Deployed:
    """What became of a deployment.

    Args:
        calls: of AWS's command line, in their order.
    """

    status: int
    output: str
    calls: list[list[str]]

    @property
    def operations(self) -> list[str]:
        """Name the calls."""
        return [call[1] for call in self.calls]

    def call(self, operation: str) -> list[str]:
        """Find the one call of an operation."""
        (found,) = [call for call in self.calls if call[1] == operation]
        return found


@pytest.fixture
def deploy(tmp_path: Path) -> "Deploy":
    """Put the stand-in where AWS's command line would be found."""
    command = tmp_path / "bin" / "aws"
    command.parent.mkdir()
    command.write_text(AWS)
    command.chmod(0o755)
    return Deploy(tmp_path)


class Deploy:
    """Runs the script."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __call__(
        self,
        *arguments: str,
        typed: str = "",
        changes: str = ADDED,
        planned: str = PLANNED,
        stack: str = "UPDATE_COMPLETE",
        told: Mapping[str, tuple[int, str]] | None = None,
        **variables: str,
    ) -> Deployed:
        """Deploy.

        Args:
            typed: what the person answers.
            stack: its status.
            told: what AWS answers otherwise: words of the call → exit code, text.
        """
        answers = {
            **(told or {}),
            "sts get-caller-identity": (0, "000000000000\n"),
            "cloudformation deploy": (0, planned),
            "describe-change-set text": (0, changes),
            "describe-change-set table": (0, "| table of changes |\n"),
            "describe-stacks StackStatus": (0, f"{stack}\n"),
            "describe-stacks Outputs": (0, "| table of outputs |\n"),
        }
        called = self._folder / "called"
        called.unlink(missing_ok=True)
        path = f"{self._folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(  # noqa: S603 - our own script
            [str(ROOT / "infra" / "deploy.sh"), *arguments],
            input=typed,
            capture_output=True,
            text=True,
            check=False,
            env={
                "PATH": path,
                "CALLED": str(called),
                "TOLD": json.dumps(answers),
                "AWS_DEFAULT_REGION": "eu-central-1",
                **variables,
            },
        )
        calls = called.read_text().splitlines() if called.exists() else []
        output = done.stdout + done.stderr
        return Deployed(done.returncode, output, [json.loads(call) for call in calls])


ARGUMENTS = ("dialtone-prod", "build/sam.json")


def test_what_changes_is_shown_and_done_after_a_yes(deploy: Deploy) -> None:
    """Uploaded, planned, shown, executed, waited for; the outputs at the end."""
    done = deploy(*ARGUMENTS, typed="y\n", BUCKET="bucket")
    assert done.status == 0
    assert "dialtone-prod in eu-central-1 of account 000000000000" in done.output
    assert done.operations == [
        *("get-caller-identity", "package", "deploy"),
        *("describe-change-set", "describe-change-set"),
        *("describe-stacks", "execute-change-set", "wait", "describe-stacks"),
    ]
    assert done.output.index("table of changes") < done.output.index("table of outputs")
    assert "takes away" not in done.output
    plan = done.call("deploy")
    assert "--no-execute-changeset" in plan
    assert plan[plan.index("--s3-bucket") + 1] == "bucket"
    packaged = done.call("package")
    assert packaged[packaged.index("--template-file") + 1] == "build/sam.json"
    written = packaged[packaged.index("--output-template-file") + 1]
    assert plan[plan.index("--template-file") + 1] == written
    assert not Path(written).exists()
    assert done.call("execute-change-set")[-1] == CHANGE_SET
    assert done.call("wait")[2] == "stack-update-complete"


@pytest.mark.parametrize("typed", ["n\n", "\n", "", "what\n"])
def test_without_a_yes_nothing_changes(deploy: Deploy, typed: str) -> None:
    """Whatever else is typed, and where nobody is there to type; the plan is thrown away."""
    done = deploy(*ARGUMENTS, typed=typed)
    assert done.status == 1
    assert "Nothing was changed." in done.output
    assert done.operations[-1] == "delete-change-set"
    assert "execute-change-set" not in done.operations


def test_a_yes_can_be_given_before(deploy: Deploy) -> None:
    """With YES=1 nobody is asked."""
    done = deploy(*ARGUMENTS, YES="1")
    assert done.status == 0
    assert "[y/N]" not in done.output
    assert "execute-change-set" in done.operations


def test_what_is_lost_is_named(deploy: Deploy) -> None:
    """What is removed or may be replaced stands once more, before anybody is asked."""
    done = deploy(*ARGUMENTS, changes=ADDED + REMOVED + MODIFIED + REPLACED)
    warned = done.output.split("This takes away, or may replace:\n")[1]
    assert warned.startswith(REMOVED + REPLACED)
    assert "CodesTable" not in warned
    assert "APIHandler" not in warned


def test_where_nothing_changes_nobody_is_asked(deploy: Deploy) -> None:
    """It says so, and that is well."""
    done = deploy(*ARGUMENTS, planned=NOTHING)
    assert done.status == 0
    assert "No changes to deploy" in done.output
    assert done.operations == ["get-caller-identity", "deploy"]


def test_a_first_deployment_waits_for_the_stack_to_be_made(deploy: Deploy) -> None:
    """As planning leaves it: a stack to be reviewed."""
    done = deploy(*ARGUMENTS, YES="1", stack="REVIEW_IN_PROGRESS")
    assert done.call("wait")[2] == "stack-create-complete"


def test_parameters_go_along_as_they_are(deploy: Deploy) -> None:
    """Also with blanks in them; without any, none are named."""
    done = deploy(*ARGUMENTS, "EdgeHost=d.example", "EdgeHashes=aa bb", YES="1")
    plan = done.call("deploy")
    given = plan[plan.index("--parameter-overrides") + 1 :]
    assert given == ["EdgeHost=d.example", "EdgeHashes=aa bb"]
    assert "--parameter-overrides" not in deploy(*ARGUMENTS, YES="1").call("deploy")


def test_without_a_bucket_nothing_is_uploaded(deploy: Deploy) -> None:
    """As for the edge, which has no code."""
    done = deploy("dialtone-prod-edge", "infra/edge.json", YES="1")
    assert "package" not in done.operations
    plan = done.call("deploy")
    assert plan[plan.index("--template-file") + 1] == "infra/edge.json"
    assert "--s3-bucket" not in plan


@pytest.mark.parametrize("failing", ["get-caller-identity", "package", "deploy"])
def test_a_plan_that_fails_changes_nothing(deploy: Deploy, failing: str) -> None:
    """Not signed in, no bucket, a template that is refused: AWS's words, and an end."""
    told = {failing: (255, "An error occurred")}
    done = deploy(*ARGUMENTS, YES="1", BUCKET="bucket", told=told)
    assert done.status == 255
    assert done.operations[-1] == failing
    assert "execute-change-set" not in done.operations


def test_a_plan_that_is_not_understood_changes_nothing(deploy: Deploy) -> None:
    """What was said is shown."""
    done = deploy(*ARGUMENTS, YES="1", planned="something new\n")
    assert done.status == 1
    assert "something new" in done.output
    assert "execute-change-set" not in done.operations


def test_a_deployment_that_fails_tells_why(deploy: Deploy) -> None:
    """With the resources that failed."""
    told = {
        "cloudformation wait": (255, ""),
        "describe-stack-events": (0, "RestAPI\tCloudWatch Logs role ARN must be set\n"),
    }
    done = deploy(*ARGUMENTS, YES="1", told=told)
    assert done.status == 1
    assert "It failed, and the stack goes back to what it was:" in done.output
    assert "CloudWatch Logs role ARN must be set" in done.output


def test_it_says_how_it_is_used(deploy: Deploy) -> None:
    """And does nothing without knowing which stack."""
    done = deploy("dialtone-prod")
    assert (done.status, done.calls) == (2, [])
    assert "infra/deploy.sh STACK TEMPLATE" in done.output
