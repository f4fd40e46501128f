"""What a cluster file must keep, as one function a rule: files in, faults out, none if all is well.

Ray runs the code of whoever reaches it. The rules are about who does, what the token is worth, and what a node may do.
"""

import ipaddress
import re
from collections.abc import Callable, Iterator
from typing import Any

from schemas.floors import FLOORS
from tests.cluster.shipped import Shipped, egress_blocks, environment, flags, ports_of

Faults = Iterator[str]
PORT_PARAMETERS = {
    "object-manager-port", "node-manager-port", "runtime-env-agent-port", "dashboard-agent-grpc-port",
    "dashboard-agent-listen-port", "metrics-export-port", "min-worker-port", "max-worker-port",
}  # fmt: skip
METRIC_VARIABLES = ("AUTOSCALER_METRIC_PORT", "DASHBOARD_METRIC_PORT")
CLIENT_PORT = 10001
METADATA = [ipaddress.ip_network("169.254.0.0/16"), ipaddress.ip_network("fd00:ec2::254/128")]
ENCRYPTING_FAMILIES = {"c6i", "c7i", "g4dn", "g5", "g6", "m6i", "m7i", "p4d", "p5"}  # in transit, says AWS
SECRET_NAME = re.compile(r"(^|_)(TOKEN|SECRET|PASSWORD|CREDENTIALS?|KEY)(_|$)")
SECRET_VALUE = re.compile(r"(AKIA|ASIA)[A-Z0-9]{16}|\bhf_[A-Za-z0-9]{16}|\bghp_|-----BEGIN [A-Z ]*PRIVATE|://[^/\s:@]+:[^/\s@]+@")
FOR_MACHINES = ("ray_up.yaml", "slurm.sh", "submit.sh", "README.md")


def token_mode_everywhere(shipped: Shipped) -> Faults:
    if shipped.ray_cluster.get("authOptions", {}).get("mode") != "token":
        yield "kuberay.yaml: authOptions.mode is not token"
    for pod in shipped.pods:
        for container in pod.containers:
            if environment(container).get("RAY_AUTH_MODE") != "token":
                yield f"kuberay.yaml: {container['name']} without RAY_AUTH_MODE=token"
    for name, text in shipped.texts.items():
        if name not in ("kuberay.yaml", "aws.yaml") and "RAY_AUTH_MODE=token" not in text:
            yield f"{name}: no RAY_AUTH_MODE=token"
        if re.search(r"RAY_AUTH_MODE\W+disabled|mode: disabled", text):
            yield f"{name}: token mode disabled"


def token_from_a_secret_or_a_private_file(shipped: Shipped) -> Faults:
    if not shipped.ray_cluster.get("authOptions", {}).get("secretName"):
        yield "kuberay.yaml: authOptions names no Secret"
    if shipped.kind("Secret"):
        yield "kuberay.yaml: holds a Secret itself"
    for pod in shipped.pods:
        for container in pod.containers:
            source = environment(container).get("RAY_AUTH_TOKEN")
            if source is not None and (not isinstance(source, dict) or source["secretKeyRef"]["key"] != "auth_token"):
                yield f"kuberay.yaml: {container['name']} takes its token from elsewhere than a Secret's auth_token"
    if not any("chmod 600 ~/.ray/auth_token" in command for command in shipped.machines["setup_commands"]):
        yield "ray_up.yaml: the token's file is not made private"
    for name, needed in (("slurm.sh", 'chmod 600 "$shared/auth_token"'), ("submit.sh", "????------*")):
        if needed not in shipped.texts[name]:
            yield f"{name}: the token's file may be open to others"
    for name, text in shipped.texts.items():
        if re.search(r"""RAY_AUTH_TOKEN["']?\s*[=:]\s*["']?\w|auth_token["']?:\s*["']?\w""", text):
            yield f"{name}: a token in clear"


def dashboard_on_loopback(shipped: Shipped) -> Faults:
    for name in FOR_MACHINES:
        if re.search(r"--dashboard-host[= ](?!127\.0\.0\.1|localhost)\S", shipped.texts[name]):
            yield f"{name}: a dashboard beyond loopback"
    head = flags(" ".join(shipped.machines["head_start_ray_commands"]))
    if head.get("dashboard-host") != "127.0.0.1" and head.get("include-dashboard") != "false":
        yield "ray_up.yaml: the dashboard's host is left to Ray"


def nothing_published(shipped: Shipped) -> Faults:
    head = shipped.ray_cluster["headGroupSpec"]
    if head.get("serviceType") != "ClusterIP" or head.get("enableIngress") or "headService" in head:
        yield "kuberay.yaml: the head's service is more than ClusterIP"
    for one in shipped.objects:
        if one["kind"] in {"Ingress", "HTTPRoute", "Gateway", "Service", "Route"}:
            yield f"kuberay.yaml: {one['kind']} {one['metadata']['name']} publishes Ray"
    for pod in shipped.pods:
        if pod.spec.get("hostNetwork") or any("hostPort" in port for one in pod.containers for port in one.get("ports", [])):
            yield f"kuberay.yaml: {pod.role} on the node's own network"


def no_ray_client(shipped: Shipped) -> Faults:
    named = [port["containerPort"] for pod in shipped.pods for one in pod.containers for port in one.get("ports", [])]
    if CLIENT_PORT in named:
        yield "kuberay.yaml: a container offers Ray Client"
    for policy in shipped.policies:
        if any(CLIENT_PORT in span for span in ports_of(policy.get("ingress", []) + policy.get("egress", []))):
            yield "kuberay.yaml: a policy lets Ray Client through"
    for name in ("README.md", "submit.sh"):
        if "ray://" in shipped.texts[name]:
            yield f"{name}: uses Ray Client"
    if "RAY_API_SERVER_ADDRESS:-http://127.0.0.1:8265" not in shipped.texts["submit.sh"]:
        yield "submit.sh: its default is not the forwarded port"


def network_denied_by_default(shipped: Shipped) -> Faults:
    generated = shipped.ray_cluster.get("networkPolicy", {}).get("mode") == "DenyAll"
    empty = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    if not generated and empty not in shipped.policies:
        yield "kuberay.yaml: no policy that denies everything"
    for policy in shipped.policies:
        for way, peers in (("ingress", "from"), ("egress", "to")):
            if any(not rule.get(peers) or not rule.get("ports") for rule in policy.get(way, [])):
                yield f"kuberay.yaml: {way} of everybody or on every port"
        if any("ipBlock" in peer for rule in policy.get("ingress", []) for peer in rule.get("from", [])):
            yield "kuberay.yaml: ingress from addresses, not from pods"
        if any(block.prefixlen < 16 for block, _ in egress_blocks(policy)):
            yield "kuberay.yaml: egress to most of the internet"


def names_resolve(shipped: Shipped) -> Faults:
    generated = shipped.ray_cluster.get("networkPolicy", {})
    if generated.get("mode") == "DenyAll":
        parts = [generated.get("head", {}), generated.get("worker", {}), *generated.get("workerGroups", [])]
        if any(not any(53 in span for span in ports_of(part.get("egressRules", []))) for part in parts):
            yield "kuberay.yaml: a generated policy without DNS; the cluster would never start"
    else:
        for pod in shipped.pods:
            rules = [rule for policy in shipped.policies_of(pod) for rule in policy.get("egress", [])]
            if not any(53 in span for span in ports_of(rules)):
                yield f"kuberay.yaml: {pod.role} may not ask DNS; the cluster would never start"
    if not shipped.ray_cluster.get("enableInTreeAutoscaling"):
        rules = [rule for policy in shipped.policies for rule in policy.get("egress", [])]
        if any(6443 in span for span in ports_of(rules)):
            yield "kuberay.yaml: the Kubernetes API is reachable without need"


def no_metadata(shipped: Shipped) -> Faults:
    for policy in shipped.policies:
        for block, excepted in egress_blocks(policy):
            for metadata in METADATA:
                if block.version == metadata.version and block.overlaps(metadata) and str(metadata) not in excepted:
                    yield f"kuberay.yaml: egress to {block} reaches metadata addresses"
    for name, config in shipped.node_configs.items():
        if config.get("MetadataOptions") != {"HttpTokens": "required", "HttpPutResponseHopLimit": 1}:
            yield f"ray_up.yaml: {name} does not require IMDSv2 with one hop"


def fixed_ports(shipped: Shipped) -> Faults:
    open_ports = [
        span for pod in shipped.ray_pods for one in shipped.policies_of(pod) for span in ports_of(one.get("ingress", []))
    ]
    for at, group in enumerate(shipped.groups):
        parameters = group["rayStartParams"]
        if missing := PORT_PARAMETERS - set(parameters):
            yield f"kuberay.yaml: group {at} leaves {sorted(missing)} to Ray"
        ports = [int(value) for name, value in parameters.items() if name.endswith("port")]
        variables = [environment(one) for one in group["template"]["spec"]["containers"]]
        ports += [int(one[name]) for one in variables for name in METRIC_VARIABLES if name in one]
        if closed := [port for port in ports if not any(port in span for span in open_ports)]:
            yield f"kuberay.yaml: ports {closed} are fixed, but no policy lets them in"
    commands = {f"ray_up.yaml {one}": " ".join(shipped.machines[f"{one}_start_ray_commands"]) for one in ("head", "worker")}
    for name, text in {**commands, "slurm.sh": shipped.texts["slurm.sh"]}.items():
        if missing := PORT_PARAMETERS - set(flags(text)):
            yield f"{name}: leaves {sorted(missing)} to Ray"
    group = shipped.account["Machines"]["Properties"]
    if any("Ref" not in str(rule.get("CidrIp")) or rule["ToPort"] != 22 for rule in group["SecurityGroupIngress"]):
        yield "aws.yaml: the group is open to more than SSH from a named range"
    among = shipped.account["MachinesAmongThemselves"]["Properties"]
    if among.get("SourceSecurityGroupId") != among["GroupId"]:
        yield "aws.yaml: the group lets others in than itself"
    if "security_group" in shipped.machines["provider"]:  # to whose rules Ray adds SSH from everywhere
        yield "ray_up.yaml: a group of Ray's making"


def encrypted_between_hosts(shipped: Shipped) -> Faults:
    by_hand = all(environment(one).get("RAY_USE_TLS") == "1" for pod in shipped.ray_pods for one in pod.containers)
    if not shipped.ray_cluster.get("tlsOptions", {}).get("enabled") and not by_hand:
        yield "kuberay.yaml: Ray talks in clear"
    if "RAY_USE_TLS=1" not in shipped.texts["slurm.sh"]:
        yield "slurm.sh: Ray talks in clear"
    for name, config in shipped.node_configs.items():
        if config["InstanceType"].split(".")[0] not in ENCRYPTING_FAMILIES:
            yield f"ray_up.yaml: {name} is a {config['InstanceType']}, which does not encrypt in transit"
    if (
        "[[ $plain_http == yes ]] || refuse" not in shipped.texts["submit.sh"]
        or "plain_http=no" not in shipped.texts["submit.sh"]
    ):
        yield "submit.sh: plain http to another machine"


def no_delegated_tokens(shipped: Shipped) -> Faults:
    if shipped.ray_cluster.get("authOptions", {}).get("enableK8sTokenAuth"):
        yield "kuberay.yaml: enableK8sTokenAuth is not supported for a RayJob"


def confined_pods(shipped: Shipped) -> Faults:
    for pod in shipped.pods:
        if pod.spec.get("automountServiceAccountToken") is not False:
            yield f"kuberay.yaml: {pod.role} gets a token of the Kubernetes API"
        if pod.spec.get("securityContext", {}).get("seccompProfile") != {"type": "RuntimeDefault"}:
            yield f"kuberay.yaml: {pod.role} without seccomp profile"
        for container in pod.containers:
            own = container.get("securityContext", {})
            wanted = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "runAsNonRoot": True}
            if own.get("privileged") or any(own.get(key) is not value for key, value in wanted.items()):
                yield f"kuberay.yaml: {container['name']} may do more than it must"
            if own.get("capabilities") != {"drop": ["ALL"]}:
                yield f"kuberay.yaml: {container['name']} keeps capabilities"
            if "/tmp" not in [mount["mountPath"] for mount in container.get("volumeMounts", [])]:
                yield f"kuberay.yaml: {container['name']} has nowhere to write"
    if shipped.texts["Dockerfile"].rstrip().splitlines()[-1] != "USER 1000:1000":
        yield "Dockerfile: ends as root"


def limited_containers(shipped: Shipped) -> Faults:
    for pod in shipped.pods:
        for container in pod.containers:
            limits = container.get("resources", {}).get("limits", {})
            if missing := {"cpu", "memory", "ephemeral-storage"} - set(limits):
                yield f"kuberay.yaml: {container['name']} without a limit of {sorted(missing)}"
        empty = [volume for volume in pod.spec["volumes"] if "emptyDir" in volume]
        if any("sizeLimit" not in volume["emptyDir"] for volume in empty):
            yield f"kuberay.yaml: {pod.role} has scratch space without a limit"
    for pod in shipped.ray_pods:
        mounts = [mount["mountPath"] for container in pod.containers for mount in container["volumeMounts"]]
        if "/dev/shm" not in mounts:
            yield f"kuberay.yaml: {pod.role} leaves /dev/shm to chance"
    gpu_group = shipped.ray_cluster["workerGroupSpecs"][0]["template"]["spec"]["containers"][0]
    if "nvidia.com/gpu" not in gpu_group["resources"]["limits"]:
        yield "kuberay.yaml: GPU workers without a limit of GPUs"


def pinned_images(shipped: Shipped) -> Faults:
    for pod in shipped.pods:
        for container in pod.containers:
            if container["image"] != "${FOVEA_IMAGE}" and not re.search(r"@sha256:[0-9a-f]{64}$", container["image"]):
                yield f"kuberay.yaml: {container['name']} runs {container['image']}, which may change"
    dockerfile = shipped.texts["Dockerfile"]
    if re.findall(r"^FROM (.*)", dockerfile, re.MULTILINE) != ["${BASE_IMAGE}"] or "@sha256:[0-9a-f]{64}$" not in dockerfile:
        yield "Dockerfile: builds on a base without a digest"
    if "ARG BASE_IMAGE=" in dockerfile:
        yield "Dockerfile: has a default for its base"
    if "[[ $FOVEA_IMAGE == *@sha256:* ]]" not in shipped.texts["README.md"]:
        yield "README.md: fills in an image without a digest"
    for name, config in shipped.node_configs.items():
        if not config["ImageId"].startswith("ami-"):
            yield f"ray_up.yaml: {name} starts from {config['ImageId']}, which may change"
    if any(":latest" in text for text in shipped.texts.values()):
        yield "an image tagged latest"
    if _numbers(shipped.ray_cluster["rayVersion"]) < _numbers(FLOORS["ray"]):
        yield f"kuberay.yaml: Ray {shipped.ray_cluster['rayVersion']} is below {FLOORS['ray']}"


def _numbers(version: Any) -> list[int]:
    return [int(part) for part in str(version).split(".")]


def no_secrets_in_settings(shipped: Shipped) -> Faults:
    for name, text in shipped.texts.items():
        if name != "submit.sh" and (found := SECRET_VALUE.search(text)):
            yield f"{name}: {found[0][:6]}... looks like a secret"
    for pod in shipped.pods:
        for container in pod.containers:
            written = [
                name for name, value in environment(container).items() if isinstance(value, str) and SECRET_NAME.search(name)
            ]
            if written:
                yield f"kuberay.yaml: {container['name']} has {written} in clear"
    for place in ("runtimeEnvYAML", "metadata"):
        if place in shipped.job:
            yield f"kuberay.yaml: {place}, which Ray stores and shows in clear"
    submit = shipped.texts["submit.sh"]
    if '\nrefuse_secrets "$@"' not in submit or 'refuse_variable "$2"' not in submit:
        yield "submit.sh: lets secrets through"


def narrow_roles(shipped: Shipped) -> Faults:
    allowed = {"s3:ListBucket", "s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload", "s3:DeleteObject"}
    for statement in shipped.statements():
        actions = {action for action in statement["Action"] if action.startswith(("s3:", "*"))}
        resources = statement["Resource"] if isinstance(statement["Resource"], list) else [statement["Resource"]]
        if actions - allowed:
            yield f"aws.yaml: {sorted(actions - allowed)} on the store"
        if "s3:PutObject" in actions and any("${OutputPrefix}/" not in str(one) for one in resources):
            yield "aws.yaml: writes outside the output"
        if "s3:DeleteObject" in actions and any(not re.search(r"\.(staging|journal)/\*'", str(one)) for one in resources):
            yield "aws.yaml: deletes more than unfinished writes"
    for name, config in shipped.node_configs.items():
        if config.get("IamInstanceProfile") != {"Name": "fovea-head" if name == "head" else "fovea-worker"}:
            yield f"ray_up.yaml: {name} with another role than its own"
    if not all("eks.amazonaws.com/role-arn" in one["metadata"]["annotations"] for one in shipped.kind("ServiceAccount")):
        yield "kuberay.yaml: pods have no role of their own"


def offline_models(shipped: Shipped) -> Faults:
    for pod in shipped.ray_pods:
        for container in pod.containers:
            if environment(container).get("HF_HUB_OFFLINE") != "1":
                yield f"kuberay.yaml: {container['name']} may ask the hub"
            models = [mount for mount in container["volumeMounts"] if mount["name"] == "models"]
            if not all(mount.get("readOnly") for mount in models):
                yield f"kuberay.yaml: {container['name']} may write to the models"
        if not all(one["persistentVolumeClaim"].get("readOnly") for one in pod.spec["volumes"] if one["name"] == "models"):
            yield f"kuberay.yaml: {pod.role} may write to the models"
    if any(claim["spec"]["accessModes"] != ["ReadOnlyMany"] for claim in shipped.kind("PersistentVolumeClaim")):
        yield "kuberay.yaml: the models can be written"
    for name in ("Dockerfile", "ray_up.yaml", "slurm.sh"):
        if "HF_HUB_OFFLINE=1" not in shipped.texts[name]:
            yield f"{name}: may ask the hub"
    for name, text in shipped.texts.items():
        if "trust_remote_code" in text.lower():
            yield f"{name}: speaks of running a model's code"


def no_unsafe_manifests(shipped: Shipped) -> Faults:
    for name, text in shipped.texts.items():
        if found := re.search(r"RAY_DATA_AUTOLOAD_\w+", text):
            yield f"{name}: {found[0]}, which lets a manifest run code"


def decided_telemetry_and_private_scratch(shipped: Shipped) -> Faults:
    for name in ("Dockerfile", "ray_up.yaml", "slurm.sh"):
        if "RAY_USAGE_STATS_ENABLED=0" not in shipped.texts[name]:
            yield f"{name}: usage statistics are left to Ray"
    for pod in shipped.pods:
        if any(environment(one).get("RAY_USAGE_STATS_ENABLED") != "0" for one in pod.containers):
            yield f"kuberay.yaml: {pod.role}: usage statistics are left to Ray"
    for name, config in shipped.node_configs.items():
        if not all(one["Ebs"].get("Encrypted") for one in config["BlockDeviceMappings"]):
            yield f"ray_up.yaml: {name} has a disk in clear"
    # Ray opens its own folder to everybody; what keeps others out is the folder around it.
    made = "install -d -m 0700 ~/scratch" in shipped.machines["setup_commands"]
    for part in ("head", "worker"):
        if not made or flags(" ".join(shipped.machines[f"{part}_start_ray_commands"])).get("temp-dir") != "$HOME/scratch/ray":
            yield f"ray_up.yaml: the {part}'s files may be open to others"
    if 'mkdir -m 0700 "$0"' not in shipped.texts["slurm.sh"] or '--temp-dir="$scratch/ray"' not in shipped.texts["slurm.sh"]:
        yield "slurm.sh: Ray's files may be open to others"


def loss_of_the_head(shipped: Shipped) -> Faults:
    if not re.search(r"If the head is lost, the job ends.*the same command goes on", shipped.texts["README.md"], re.DOTALL):
        yield "README.md: does not say what the loss of the head means"
    external = "gcsFaultToleranceOptions" in shipped.ray_cluster
    if not external and not shipped.job.get("backoffLimit"):
        yield "kuberay.yaml: the job is not tried again"
    if not shipped.job.get("activeDeadlineSeconds"):
        yield "kuberay.yaml: the job may hang for ever"
    if "#SBATCH --requeue" not in shipped.texts["slurm.sh"]:
        yield "slurm.sh: the job is not tried again"
    if not re.search(r"^max_attempts=[2-9]$", shipped.texts["submit.sh"], re.MULTILINE):
        yield "submit.sh: the job is not tried again"


def machines_as_the_guide_says(shipped: Shipped) -> Faults:
    if shipped.machines["file_mounts"].get("/home/ubuntu/.ray/auth_token") != "~/.ray/auth_token":
        yield "ray_up.yaml: the token is not mounted"
    if not any("RAY_AUTH_MODE=token" in command for command in shipped.machines["initialization_commands"]):
        yield "ray_up.yaml: token mode is not set before Ray starts"
    if shipped.machines["provider"].get("use_internal_ips") is not True:
        yield "ray_up.yaml: machines are reached through public addresses"
    for name, config in shipped.node_configs.items():
        if any(one.get("AssociatePublicIpAddress") is not False for one in config.get("NetworkInterfaces", [{}])):
            yield f"ray_up.yaml: {name} may have a public address"


RULES: dict[str, Callable[[Shipped], Faults]] = {
    "R1": token_mode_everywhere,
    "R2": token_from_a_secret_or_a_private_file,
    "R3": dashboard_on_loopback,
    "R4": nothing_published,
    "R5": no_ray_client,
    "R6": network_denied_by_default,
    "R7": names_resolve,
    "R8": no_metadata,
    "R9": fixed_ports,
    "R10": encrypted_between_hosts,
    "R11": no_delegated_tokens,
    "R12": confined_pods,
    "R13": limited_containers,
    "R14": pinned_images,
    "R15": no_secrets_in_settings,
    "R16": narrow_roles,
    "R17": offline_models,
    "R18": no_unsafe_manifests,
    "R19": decided_telemetry_and_private_scratch,
    "R20": loss_of_the_head,
    "R21": machines_as_the_guide_says,
}


def faults(shipped: Shipped) -> dict[str, list[str]]:
    """Every rule that is broken, with what is wrong."""
    found = {number: list(rule(shipped)) for number, rule in RULES.items()}
    return {number: lines for number, lines in found.items() if lines}
