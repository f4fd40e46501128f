"""The shipped cluster files keep every rule; files broken on purpose are caught by the rule they break and by no other."""

import re
import subprocess

import pytest
import yaml

from tests.cluster.rules import RULES, faults
from tests.cluster.shipped import FOLDER, NAMES, Shipped

GUARD = "[[ $plain_http == yes ]] || refuse"
FROM_RAY = "    - from:\n        - podSelector:\n            matchLabels:\n              fovea/part: ray\n"
WORKER = "- name: ray-worker\n                image: "
RESULTS = '{ "Fn::Sub": "arn:${AWS::Partition}:s3:::${Bucket}/${OutputPrefix}/*" }'
BROKEN = [  # rule, file, what is there, what is put in its place
    ("R1", "kuberay.yaml", "      mode: token\n", "      mode: disabled\n"),
    ("R1", "kuberay.yaml", "                - { name: RAY_AUTH_MODE, value: token }\n", ""),
    ("R1", "submit.sh", "export RAY_AUTH_MODE=token", "true"),
    ("R1", "Dockerfile", "    RAY_AUTH_MODE=token \\\n", ""),
    ("R2", "kuberay.yaml", "      secretName: fovea-ray-token\n", ""),
    ("R2", "kuberay.yaml", "key: auth_token }", "key: password }"),
    ("R2", "slurm.sh", 'chmod 600 "$shared/auth_token"', "true"),
    ("R2", "ray_up.yaml", "chmod 600 ~/.ray/auth_token", "true"),
    ("R2", "README.md", "RAY_AUTH_TOKEN_PATH=~/.ray/auth_token", "RAY_AUTH_TOKEN=0123456789abcdef"),
    ("R2", "kuberay.yaml", "kind: Namespace\n", "kind: Secret\n"),
    ("R3", "ray_up.yaml", "--dashboard-host=127.0.0.1", "--dashboard-host=0.0.0.0"),
    ("R3", "slurm.sh", "--include-dashboard=false", "--dashboard-host ::"),
    ("R4", "kuberay.yaml", "serviceType: ClusterIP", "serviceType: LoadBalancer"),
    ("R4", "kuberay.yaml", "enableIngress: false", "enableIngress: true"),
    ("R4", "kuberay.yaml", "terminationGracePeriodSeconds: 60", "hostNetwork: true"),
    ("R5", "kuberay.yaml", "{ name: gcs-server, containerPort: 6379 }", "{ name: client, containerPort: 10001 }"),
    ("R5", "kuberay.yaml", "port: 10002, endPort", "port: 10001, endPort"),
    ("R5", "submit.sh", "RAY_API_SERVER_ADDRESS:-http://127.0.0.1:8265", "RAY_API_SERVER_ADDRESS:-ray://127.0.0.1:10001"),
    ("R6", "kuberay.yaml", "  podSelector: {}\n  policyTypes: [Ingress, Egress]", "  podSelector: {}\n  policyTypes: [Ingress]"),
    ("R6", "kuberay.yaml", "cidr: 10.20.30.0/28", "cidr: 10.0.0.0/8"),
    ("R6", "kuberay.yaml", FROM_RAY + "      ports: &ray_ports", "    - ports: &ray_ports"),
    ("R7", "kuberay.yaml", "{ port: 53, protocol:", "{ port: 54, protocol:"),
    ("R7", "kuberay.yaml", "enableInTreeAutoscaling: false", "networkPolicy: { mode: DenyAll, head: {}, worker: {} }"),
    ("R7", "kuberay.yaml", "        - { port: 443, protocol: TCP }", "        - { port: 443, endPort: 6443, protocol: TCP }"),
    ("R8", "ray_up.yaml", "HttpPutResponseHopLimit: 1", "HttpPutResponseHopLimit: 2"),
    ("R8", "ray_up.yaml", "HttpTokens: required", "HttpTokens: optional"),
    ("R8", "kuberay.yaml", "cidr: 10.20.30.0/28", "cidr: 169.254.169.254/32"),
    ("R9", "kuberay.yaml", '\n        min-worker-port: "10002"\n', "\n"),
    ("R9", "kuberay.yaml", "{ port: 52365, protocol: TCP }", "{ port: 52366, protocol: TCP }"),
    ("R9", "ray_up.yaml", "--node-manager-port=8077 ", ""),
    ("R9", "slurm.sh", "--metrics-export-port=$((first_port + 8))", ""),
    ("R9", "aws.yaml", "CidrIp: { Ref: SshFrom }", "CidrIp: 0.0.0.0/0"),
    ("R9", "aws.yaml", "SourceSecurityGroupId: {", "OtherGroup: {"),
    ("R9", "ray_up.yaml", "  type: aws\n", "  type: aws\n  security_group: { GroupName: fovea }\n"),
    ("R10", "kuberay.yaml", "tlsOptions:\n      enabled: true", "tlsOptions:\n      enabled: false"),
    ("R10", "slurm.sh", "RAY_USE_TLS=1 ", ""),
    ("R10", "ray_up.yaml", "m7i.xlarge", "m5.xlarge"),
    ("R10", "submit.sh", GUARD, "true || refuse"),
    ("R11", "kuberay.yaml", "    authOptions:\n", "    authOptions:\n      enableK8sTokenAuth: true\n"),
    ("R12", "kuberay.yaml", "            readOnlyRootFilesystem: true\n", ""),
    ("R12", "kuberay.yaml", "            automountServiceAccountToken: false\n", ""),
    ("R12", "kuberay.yaml", "drop: [ALL]", "drop: [NET_RAW]"),
    ("R12", "kuberay.yaml", "          type: RuntimeDefault\n      containers", "          type: Unconfined\n      containers"),
    ("R12", "Dockerfile", "USER 1000:1000", "USER root"),
    ("R13", "kuberay.yaml", "memory: 8Gi, ephemeral-storage: 20Gi }", "memory: 8Gi }"),
    ("R13", "kuberay.yaml", "emptyDir: { medium: Memory, sizeLimit: 5Gi }", "emptyDir: { medium: Memory }"),
    ("R13", "kuberay.yaml", 'ephemeral-storage: 100Gi, nvidia.com/gpu: "1"', "ephemeral-storage: 100Gi"),
    ("R14", "kuberay.yaml", WORKER + "${FOVEA_IMAGE}", WORKER + "rayproject/ray:2.60.0"),
    ("R14", "Dockerfile", "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}", "FROM python:3.11-slim"),
    ("R14", "Dockerfile", "ARG BASE_IMAGE\nFROM", "ARG BASE_IMAGE=python:3.11-slim\nFROM"),
    ("R14", "kuberay.yaml", "rayVersion: 2.60.0", "rayVersion: 2.54.1"),
    ("R14", "ray_up.yaml", "ImageId: ami-YOURS", "ImageId: resolve:ssm:/ubuntu/current"),
    ("R15", "kuberay.yaml", "{ name: HF_HOME, value: /tmp/huggingface }", "{ name: HF_TOKEN, value: abc }"),
    ("R15", "kuberay.yaml", "--actors 4", "--set fetch.hosts=[https://user:pass@host]"),
    ("R15", "kuberay.yaml", "  backoffLimit: 3\n", "  backoffLimit: 3\n  runtimeEnvYAML: 'env_vars: {}'\n"),
    ("R15", "submit.sh", '\nrefuse_secrets "$@"', ""),
    ("R16", "aws.yaml", '"s3:GetObject"', '"s3:*"'),
    ("R16", "aws.yaml", "${OutputPrefix}/*.staging/*", "${OutputPrefix}/*"),
    ("R16", "aws.yaml", f'Upload"]\n            Resource: {RESULTS}', 'Upload"]\n            Resource: "*"'),
    ("R16", "ray_up.yaml", "IamInstanceProfile: { Name: fovea-worker }", "IamInstanceProfile: { Name: admin }"),
    ("R17", "kuberay.yaml", "                - { name: HF_HUB_OFFLINE, value: \"1\" }\n", ""),
    ("R17", "kuberay.yaml", "mountPath: /models, readOnly: true", "mountPath: /models"),
    ("R17", "slurm.sh", "HF_HUB_OFFLINE=1 ", ""),
    ("R17", "kuberay.yaml", "--actors 4", "--set model.trust_remote_code=true"),
    ("R18", "ray_up.yaml", "HF_HUB_OFFLINE=1 ", "HF_HUB_OFFLINE=1 RAY_DATA_AUTOLOAD_PYEXTENSIONTYPE=1 "),
    ("R18", "Dockerfile", "    RAY_AUTH_MODE", "    RAY_DATA_AUTOLOAD_CLOUDPICKLE_TENSOR_METADATA=1 \\\n    RAY_AUTH_MODE"),
    ("R19", "Dockerfile", "    RAY_USAGE_STATS_ENABLED=0 \\\n", ""),
    ("R19", "ray_up.yaml", "Encrypted: true", "Encrypted: false"),
    ("R19", "ray_up.yaml", "install -d -m 0700 ~/scratch", "mkdir -p ~/scratch"),
    ("R19", "slurm.sh", 'mkdir -m 0700 "$0"', 'mkdir -p "$0"'),
    ("R20", "README.md", "If the head is lost, the job ends.", "The head may be lost."),
    ("R20", "kuberay.yaml", "\n  backoffLimit: 3", "\n  backoffLimit: 0"),
    ("R20", "slurm.sh", "#SBATCH --requeue", "#SBATCH --no-requeue"),
    ("R21", "ray_up.yaml", "use_internal_ips: true", "use_internal_ips: false"),
    ("R21", "ray_up.yaml", "AssociatePublicIpAddress: false", "AssociatePublicIpAddress: true"),
    ("R21", "ray_up.yaml", "  /home/ubuntu/.ray/auth_token: ~/.ray/auth_token\n", ""),
]  # fmt: skip


def test_shipped_files_keep_every_rule() -> None:
    assert faults(Shipped.read()) == {}


@pytest.mark.parametrize(("rule", "name", "old", "new"), BROKEN)
def test_broken_files_are_caught_by_their_rule_alone(rule: str, name: str, old: str, new: str) -> None:
    found = faults(Shipped.read().with_change(name, old, new))
    assert list(found) == [rule], found
    assert all(line.startswith(name) or name in line for line in found[rule]), found


def test_every_rule_has_a_broken_file() -> None:
    assert sorted({rule for rule, *_ in BROKEN}) == sorted(RULES)
    assert sorted(int(rule[1:]) for rule in RULES) == list(range(1, 22))


def test_no_file_is_left_out() -> None:
    assert {path.name for path in FOLDER.iterdir()} - {"Dockerfile.dockerignore"} == set(NAMES)


@pytest.mark.parametrize("name", [name for name in NAMES if name.endswith(".sh")])
def test_scripts_parse_and_stop_at_errors(name: str) -> None:
    subprocess.run(["bash", "-n", FOLDER / name], check=True)
    assert "set -euo pipefail" in (FOLDER / name).read_text("utf-8") and (FOLDER / name).stat().st_mode & 0o111


def test_machines_fit_rays_own_schema() -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(yaml.safe_load((FOLDER / "ray_up.yaml").read_text("utf-8"))))


def test_versions_are_those_of_the_lock() -> None:
    lock = (FOLDER.parent / "requirements.lock").read_text("utf-8")
    (locked,) = re.findall(r"^ray==(.*)$", lock, re.MULTILINE)
    assert Shipped.read().ray_cluster["rayVersion"] == locked


def test_the_image_takes_what_the_package_is_made_of() -> None:
    """What the Dockerfile copies is what its ignore file lets through, and all of it exists."""
    copied = re.findall(r"^COPY (.*) \S+$", (FOLDER / "Dockerfile").read_text("utf-8"), re.MULTILINE)
    names = {name for line in copied for name in line.split()}
    passed = re.findall(r"^!(\S+)$", (FOLDER / "Dockerfile.dockerignore").read_text("utf-8"), re.MULTILINE)
    assert names == set(passed) and all((FOLDER.parent / name).exists() for name in names)
