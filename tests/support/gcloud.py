"""A `gcloud` with a memory: it refuses what the real one refuses, and fails where a test says so.

A process of its own for each call, as the real one; what exists lies in the file that FAKE_GCLOUD names. `fail_at`: the
call that fails, before it did anything (`lost`: after it did all of it).
"""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Any, NoReturn

DayState = dict[str, Any]
EMPTY: DayState = {
    "apis": [], "databases": {}, "repositories": [], "images": [], "accounts": {}, "bindings": [], "secrets": {},
    "indexes": [], "fields": {}, "ttls": [], "jobs": {}, "metrics": {}, "policies": [], "minute": {}, "asked": {},
    "calls": 0, "fail_at": None, "lost": False, "log": [],
}  # fmt: skip
API = {
    "firestore": "firestore", "artifacts": "artifactregistry", "builds": "cloudbuild", "secrets": "secretmanager",
    "run": "run", "scheduler": "cloudscheduler", "logging": "logging", "monitoring": "monitoring", "iam": "iam",
}  # fmt: skip
NEW_FOR = 2  # calls that do not yet know a new service account


def _yaml(file: str) -> Any:
    import yaml  # most calls have none

    return yaml.safe_load(Path(file).read_text())


def refuse(sentence: str) -> NoReturn:
    print(f"ERROR: (gcloud) {sentence}", file=sys.stderr)
    sys.exit(1)


class Call:
    """One invocation: its words, and its flags."""

    def __init__(self, arguments: list[str], state: DayState) -> None:
        self.words = [one for one in arguments if not one.startswith("--")]
        pairs = [one[2:].partition("=") for one in arguments if one.startswith("--")]
        self.flags = {name: value for name, _, value in pairs}
        self.indexes = [value for name, _, value in pairs if name in ("index", "field-config")]
        self.state = state

    def exists(self, kind: str, name: str) -> None:
        if name not in self.state[kind]:
            refuse(f"NOT_FOUND: {kind} [{name}] not found")

    def make(self, kind: str, name: str, what: Any) -> None:
        if name in self.state[kind]:
            refuse(f"ALREADY_EXISTS: {kind} [{name}] already exists")
        self.state[kind][name] = what

    def known_account(self, email: str) -> None:
        """As in reality: a while after it was made, other services say that there is none."""
        accounts = self.state["accounts"]
        if email not in accounts or accounts[email]["unknown_for"] > 0:
            if email in accounts:
                accounts[email]["unknown_for"] -= 1
                keep(self.state)
            refuse(f"INVALID_ARGUMENT: Service account {email} does not exist.")

    def young(self, what: str, sentence: str) -> None:
        """As in reality: a while after it was made, others are told that there is none."""
        asked = self.state["asked"]
        asked[what] = asked.get(what, 0) + 1
        if asked[what] <= NEW_FOR:
            keep(self.state)
            refuse(sentence)

    def bind(self, resource: str) -> None:
        member, role = self.flags["member"], self.flags["role"]
        self.known_account(member.removeprefix("serviceAccount:"))
        if resource.startswith("projects/") and "condition" not in self.flags:
            refuse("a policy with conditions needs --condition; in a script there is nobody to ask")
        entry = [resource, member, role]
        if entry not in self.state["bindings"]:
            self.state["bindings"].append(entry)

    def do(self) -> None:
        """What the words say. Raises SystemExit where the real one refuses."""
        if (api := API.get(self.words[self.words[0] == "alpha"])) and f"{api}.googleapis.com" not in self.state["apis"]:
            refuse(f"PERMISSION_DENIED: API [{api}.googleapis.com] not enabled")
        name = "_".join(word for word in self.words if re.fullmatch(r"[a-z-]+", word)).replace("-", "_")
        for length in range(min(4, len(self.words)), 1, -1):
            verb = "_".join(self.words[:length]).replace("-", "_")
            if action := getattr(self, verb, None):
                action(*self.words[length:])
                return
        refuse(f"Invalid choice: {name}")

    def services_enable(self, *apis: str) -> None:
        self.state["apis"] = sorted({*self.state["apis"], *apis})

    def firestore_databases_describe(self) -> None:
        self.exists("databases", self.flags["database"])

    def firestore_databases_create(self) -> None:
        self.make("databases", self.flags["database"], self.flags["location"])

    def artifacts_repositories_describe(self, name: str) -> None:
        self.exists("repositories", name)

    def artifacts_repositories_create(self, name: str) -> None:
        if name in self.state["repositories"]:
            refuse(f"ALREADY_EXISTS: {name}")
        self.state["repositories"].append(name)

    def artifacts_docker_images_describe(self, image: str) -> None:
        self.exists("images", image)

    def builds_submit(self, _source: str) -> None:
        if "daily-recap" not in self.state["repositories"]:
            refuse("NOT_FOUND: repository")
        self.state["images"].append(self.flags["tag"])

    def iam_service_accounts_describe(self, email: str) -> None:
        self.exists("accounts", email)

    def iam_service_accounts_create(self, name: str) -> None:
        email = f"{name}@{self.flags['project']}.iam.gserviceaccount.com"
        self.make("accounts", email, {"unknown_for": NEW_FOR})

    def projects_add_iam_policy_binding(self, project: str) -> None:
        self.bind(f"projects/{project}")

    def secrets_describe(self, name: str) -> None:
        self.exists("secrets", name)

    def secrets_create(self, name: str) -> None:
        self.make("secrets", name, [])

    def secrets_versions_access(self, _latest: str) -> None:
        name = self.flags["secret"]
        self.exists("secrets", name)
        if not self.state["secrets"][name]:
            refuse(f"NOT_FOUND: Secret [{name}] not found or has no versions.")
        sys.stdout.write(self.state["secrets"][name][-1])

    def secrets_versions_add(self, name: str) -> None:
        self.exists("secrets", name)
        assert self.flags["data-file"] == "-", "a secret in a file or an argument"
        self.state["secrets"][name].append(sys.stdin.read())

    def secrets_add_iam_policy_binding(self, name: str) -> None:
        self.exists("secrets", name)
        self.bind(f"secrets/{name}")

    def firestore_indexes_composite_list(self) -> None:
        print(json.dumps(self.state["indexes"]))

    def firestore_indexes_composite_create(self) -> None:
        fields = [dict(pair.split("=") for pair in one.split(",")) for one in self.indexes]
        index = {
            "name": f"projects/p/databases/d/collectionGroups/{self.flags['collection-group']}/indexes/i",
            "queryScope": "COLLECTION",
            "fields": [{"fieldPath": one["field-path"], "order": one["order"].upper()} for one in fields],
            "state": "CREATING",
        }
        if index in self.state["indexes"]:
            refuse("ALREADY_EXISTS: index already exists")
        self.state["indexes"].append(index)

    def auth_print_access_token(self) -> None:
        print("a-token")

    def firestore_fields_ttls_list(self) -> None:
        group = f"/collectionGroups/{self.flags['collection-group']}/"
        print(json.dumps([one for one in self.state["ttls"] if group in one["name"]]))

    def firestore_fields_ttls_update(self, name: str) -> None:
        field = f"projects/p/databases/d/collectionGroups/{self.flags['collection-group']}/fields/{name}"
        self.state["ttls"].append({"name": field, "ttlConfig": {"state": "CREATING"}})

    def run_jobs_replace(self, file: str) -> None:
        job = _yaml(file)
        inner = job["spec"]["template"]["spec"]["template"]["spec"]
        [container] = inner["containers"]
        if container["image"] not in self.state["images"]:
            refuse(f"Image '{container['image']}' not found")
        self.known_account(inner["serviceAccountName"])
        for one in container["env"]:
            if secret := one.get("valueFrom", {}).get("secretKeyRef"):
                binding = [f"secrets/{secret['name']}", f"serviceAccount:{inner['serviceAccountName']}"]
                if binding not in [one[:2] for one in self.state["bindings"]]:
                    refuse(f"Permission denied on secret: {secret['name']}, and will be")
                self.young(secret["name"], f"Permission denied on secret: {secret['name']}")
        self.state["jobs"][job["metadata"]["name"]] = job

    def run_jobs_add_iam_policy_binding(self, name: str) -> None:
        self.exists("jobs", name)
        self.bind(f"jobs/{name}")

    def run_jobs_get_iam_policy(self, name: str) -> None:
        self.exists("jobs", name)
        print(json.dumps([one for one in self.state["bindings"] if one[0] == f"jobs/{name}"]))

    def logging_metrics_describe(self, name: str) -> None:
        self.exists("metrics", name)

    def logging_metrics_create(self, name: str) -> None:
        self.make("metrics", name, _yaml(self.flags["config-from-file"]))

    def logging_metrics_update(self, name: str) -> None:
        self.exists("metrics", name)
        self.state["metrics"][name] = _yaml(self.flags["config-from-file"])

    def alpha_monitoring_policies_list(self) -> None:
        for number, one in enumerate(self.state["policies"]):
            print(f"projects/p/alertPolicies/{number},{one['displayName']}")

    def alpha_monitoring_policies_update(self, name: str) -> None:
        policy = self.state["policies"][int(name.rpartition("/")[2])]
        channels = {*policy.get("notificationChannels", []), self.flags["add-notification-channels"]}
        policy["notificationChannels"] = sorted(channels)

    def alpha_monitoring_policies_create(self) -> None:
        policy = _yaml(self.flags["policy-from-file"])
        for condition in policy["conditions"]:
            told = condition.get("conditionThreshold") or condition["conditionAbsent"]
            metric = re.search(r"user/([\w-]+)", told["filter"])
            assert metric
            if metric[1] not in self.state["metrics"]:
                refuse(f"NOT_FOUND: no metric {metric[1]}")
            self.young(metric[1], "NOT_FOUND: Cannot find metric that matches. It could take up to 10 minutes")
        if channel := self.flags.get("notification-channels"):
            policy["notificationChannels"] = [channel]
        self.state["policies"].append(policy)

    def scheduler_jobs_describe(self, name: str) -> None:
        self.exists("minute", name)
        print(self.state["minute"][name]["state"])

    def scheduler_jobs_pause(self, name: str) -> None:
        self.exists("minute", name)
        self.state["minute"][name]["state"] = "PAUSED"

    def scheduler_jobs_create_http(self, name: str) -> None:
        self.known_account(self.flags["oauth-service-account-email"])
        self.make("minute", name, self._hand() | {"state": "ENABLED"})

    def scheduler_jobs_update_http(self, name: str) -> None:
        self.exists("minute", name)
        if self.state["minute"][name]["state"] == "PAUSED":
            refuse("FAILED_PRECONDITION: a paused job can't be updated")
        self.state["minute"][name] |= self._hand()

    def _hand(self) -> dict[str, str]:
        return {key: self.flags[key] for key in ("schedule", "uri", "http-method")}


def keep(state: DayState) -> None:
    Path(os.environ["FAKE_GCLOUD"]).write_text(json.dumps(state))


def counted(file: Path, what: list[str]) -> tuple[DayState, bool]:
    """One call more, and whether it is the one that fails."""
    state: DayState = EMPTY | json.loads(file.read_text())
    number, state["calls"] = state["calls"], state["calls"] + 1
    state["log"] = [*state["log"], what]
    file.write_text(json.dumps(state))
    return state, number == state["fail_at"]


def main(arguments: list[str]) -> None:
    state, fails = counted(Path(os.environ["FAKE_GCLOUD"]), arguments)
    if fails and not state["lost"]:
        refuse("There was a problem refreshing your current auth tokens: network is unreachable")
    Call(arguments, state).do()
    keep(state)
    if fails:
        refuse("Connection reset by peer")


if __name__ == "__main__":
    main(sys.argv[1:])
