"""The folder `cluster` as the rules see it: texts by name, and the parsed parts of its YAML files."""

import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parents[2] / "cluster"
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
NAMES = ("Dockerfile", "README.md", "aws.yaml", "kuberay.yaml", "ray_up.yaml", "slurm.sh", "submit.sh")


@dataclass(frozen=True)
class Pod:
    """A pod template of kuberay.yaml: `role` is head, worker or submitter."""

    role: str
    labels: dict[str, str]
    spec: dict[str, Any]

    @property
    def containers(self) -> list[dict[str, Any]]:
        return [*self.spec.get("initContainers", []), *self.spec["containers"]]


def environment(container: dict[str, Any]) -> dict[str, Any]:
    """Name → value, or the mapping that says where the value comes from."""
    return {one["name"]: one.get("value", one.get("valueFrom")) for one in container.get("env", [])}


@dataclass(frozen=True)
class Shipped:
    """Texts of the files by name; a test may replace some of them."""

    texts: dict[str, str]

    @classmethod
    def read(cls) -> "Shipped":
        return cls({name: (FOLDER / name).read_text("utf-8") for name in NAMES})

    def with_change(self, name: str, old: str, new: str) -> "Shipped":
        """The same with one passage changed, which must be there."""
        if old not in self.texts[name]:
            raise ValueError(f"{name} has no {old!r}; expected what is to be broken")
        return Shipped(self.texts | {name: self.texts[name].replace(old, new)})

    @cached_property
    def objects(self) -> list[dict[str, Any]]:
        return list(yaml.load_all(self.texts["kuberay.yaml"], LOADER))

    def kind(self, name: str) -> list[dict[str, Any]]:
        return [one for one in self.objects if one["kind"] == name]

    @cached_property
    def job(self) -> dict[str, Any]:
        (job,) = self.kind("RayJob")
        return dict(job["spec"])

    @property
    def ray_cluster(self) -> dict[str, Any]:
        return dict(self.job["rayClusterSpec"])

    @property
    def groups(self) -> list[dict[str, Any]]:
        """Head group first, then worker groups: rayStartParams and template each."""
        return [self.ray_cluster["headGroupSpec"], *self.ray_cluster["workerGroupSpecs"]]

    @cached_property
    def pods(self) -> list[Pod]:
        templates = [("submitter", self.job["submitterPodTemplate"])]
        templates += [("worker" if at else "head", group["template"]) for at, group in enumerate(self.groups)]
        return [Pod(role, self._labels(role, one), one["spec"]) for role, one in templates]

    @staticmethod
    def _labels(role: str, template: dict[str, Any]) -> dict[str, str]:
        """With those that the operator adds to Ray's pods."""
        own = template.get("metadata", {}).get("labels", {})
        return dict(own) if role == "submitter" else {**own, "ray.io/node-type": role}

    @property
    def ray_pods(self) -> list[Pod]:
        return [pod for pod in self.pods if pod.role != "submitter"]

    @cached_property
    def policies(self) -> list[dict[str, Any]]:
        return [one["spec"] for one in self.kind("NetworkPolicy")]

    def policies_of(self, pod: Pod) -> list[dict[str, Any]]:
        wanted = [(policy, policy["podSelector"].get("matchLabels", {})) for policy in self.policies]
        return [policy for policy, labels in wanted if labels.items() <= pod.labels.items()]

    @cached_property
    def machines(self) -> dict[str, Any]:
        return dict(yaml.load(self.texts["ray_up.yaml"], LOADER))

    @property
    def node_configs(self) -> dict[str, dict[str, Any]]:
        return {name: one["node_config"] for name, one in self.machines["available_node_types"].items()}

    @cached_property
    def account(self) -> dict[str, dict[str, Any]]:
        """Resources of aws.yaml by name."""
        return dict(yaml.load(self.texts["aws.yaml"], LOADER)["Resources"])

    def statements(self) -> Iterator[dict[str, Any]]:
        """What aws.yaml allows to its roles."""
        for resource in self.account.values():
            own = resource["Properties"]
            documents = [own.get("PolicyDocument"), *(one["PolicyDocument"] for one in own.get("Policies", []))]
            yield from (one for document in documents if document for one in document["Statement"])


def egress_blocks(policy: dict[str, Any]) -> Iterator[tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, list[str]]]:
    """Address ranges that a policy lets pods reach, with what it takes out of each."""
    for rule in policy.get("egress", []):
        for peer in rule.get("to", []):
            if block := peer.get("ipBlock"):
                yield ipaddress.ip_network(block["cidr"]), block.get("except", [])


def ports_of(rules: list[dict[str, Any]]) -> list[range]:
    """The port ranges that a policy's rules name."""
    named = [port for rule in rules for port in rule.get("ports", [])]
    return [range(port["port"], port.get("endPort", port["port"]) + 1) for port in named]


def flags(text: str) -> dict[str, str]:
    """`--name=value` in a command; of one that comes twice, the last value."""
    return dict(re.findall(r"--([a-z-]+)=(\S+)", text))
