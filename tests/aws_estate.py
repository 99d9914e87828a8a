"""One AWS account for a test: simulated, or behind boto3 on moto's server. Both are set up in the same words."""

from __future__ import annotations

import io
import json
import uuid
import zipfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

import boto3

from bot.adapters.aws import aws_account
from bot.ports import AwsAccount, Instance
from bot.sandbox.aws import SimAws
from bot.sandbox.clock import SimClock
from bot.sandbox.faults import Faults

CREDENTIALS = {"access_key_id": "testing", "secret_access_key": "testing"}
REGION = "us-east-1"
_IMAGE = "ami-12c6146b"  # one of moto's own
MORE = (
    "scaling",
    "databases",
    "functions",
    "containers",
    "secrets",
    "organization",
)  # the other ports of an account, by field
ADMIN = "arn:aws:iam::aws:policy/AdministratorAccess"


class Estate(Protocol):
    """`faults` are raised by every port of `account`, by method name."""

    clock: SimClock
    faults: Faults
    account: AwsAccount
    id: str

    def add_role(self, name: str, *, path: str = "/") -> str: ...

    def drop_role(self, name: str) -> None: ...

    def add_user(self, name: str) -> None: ...

    def drop_user(self, name: str) -> None: ...

    def add_key(self, user: str) -> str: ...

    def add_console(self, user: str) -> None: ...

    def add_instance(self, *, interfaces: int = 1, volumes: int = 1) -> Instance: ...

    def terminate(self, instance: str) -> None: ...

    def give_profile(self, instance: str) -> str:
        """An instance profile of its own; returns its ARN."""

    def join_group(self, instance: str) -> None:
        """Makes it the one instance of an Auto Scaling group."""

    def add_function(self, role: str) -> str:
        """One that runs as the role of that ARN; returns its name."""

    def add_service(self, role: str) -> str:
        """Two tasks of it, in the cluster of the same name."""

    def add_task(self, role: str) -> tuple[str, str]:
        """(cluster, task)."""

    def add_secret(self) -> str:
        """Returns its ARN."""

    def drop_secret(self, arn: str) -> None: ...

    def add_database(self) -> str: ...

    def member(self) -> str:
        """An account of the organization that is not its management account."""


class Simulated:
    def __init__(self, clock: SimClock) -> None:
        self.sim = SimAws(clock)
        self.clock, self.faults, self.account, self.id = clock, self.sim.faults, self.sim.account(), self.sim.id
        self.add_user, self.add_key = self.sim.iam.add_user, self.sim.iam.add_key
        self.add_group = self.sim.iam.add_group
        self.terminate = self.sim.ec2.terminate

    def add_role(self, name: str, *, path: str = "/") -> str:
        return self.sim.iam.add_role(name, path=path)

    def add_console(self, user: str) -> None:
        self.sim.iam.users[user].console = True

    def drop_role(self, name: str) -> None:
        del self.sim.iam.roles[name]

    def drop_user(self, name: str) -> None:
        del self.sim.iam.users[name]

    def add_instance(self, *, interfaces: int = 1, volumes: int = 1) -> Instance:
        return self.sim.ec2.add_instance(interfaces=interfaces, volumes=volumes)

    def give_profile(self, instance: str) -> str:
        arn = f"arn:aws:iam::{self.id}:instance-profile/{fresh('p')}"
        self.account.ec2.set_profile(instance, arn)
        return arn

    def join_group(self, instance: str) -> None:
        self.sim.scaling.add(fresh("asg"), instance)

    def add_function(self, role: str) -> str:
        self.sim.functions.add(name := fresh("f"), role)
        return name

    def add_service(self, role: str) -> str:
        self.sim.containers.add_service(name := fresh("s"), name, role)
        return name

    def add_task(self, role: str) -> tuple[str, str]:
        return "c", self.sim.containers.add_task("c", role)

    def add_secret(self) -> str:
        return self.sim.secrets.add(fresh("secret"))

    def drop_secret(self, arn: str) -> None:
        del self.sim.secrets.policies[arn]

    def add_database(self) -> str:
        self.sim.databases.add(name := fresh("db"))
        return name

    def member(self) -> str:
        return self.id


class Real:
    """boto3 and moto. Its clock is the test's, except for what moto stamps itself."""

    id = "123456789012"

    def __init__(self, url: str, clock: SimClock) -> None:
        self.clock, self.faults = clock, Faults()
        real = _account(url)
        parts: Any = [Faulty(part, self.faults) for part in (real.iam, real.ec2, real.parameters, real.cloudtrail)]
        more: Any = {name: Faulty(getattr(real, name), self.faults) for name in MORE}
        self.account = AwsAccount(*parts, self.id, **more)
        self.url, self.iam, self.ec2 = url, client("iam", url), client("ec2", url)

    def add_role(self, name: str, *, path: str = "/") -> str:
        role = self.iam.create_role(RoleName=name, Path=path, AssumeRolePolicyDocument="{}")
        self.iam.attach_role_policy(RoleName=name, PolicyArn=ADMIN)
        return str(role["Role"]["Arn"])

    def drop_role(self, name: str) -> None:
        self.iam.detach_role_policy(RoleName=name, PolicyArn=ADMIN)
        self.iam.delete_role(RoleName=name)

    def add_user(self, name: str) -> None:
        self.iam.create_user(UserName=name)

    def drop_user(self, name: str) -> None:
        for key in self.iam.list_access_keys(UserName=name)["AccessKeyMetadata"]:
            self.iam.delete_access_key(UserName=name, AccessKeyId=key["AccessKeyId"])
        self.iam.delete_user(UserName=name)

    def add_group(self, name: str, user: str, policy: str, document: Mapping[str, Any], *attached: str) -> None:
        self.iam.create_group(GroupName=name)
        self.iam.put_group_policy(GroupName=name, PolicyName=policy, PolicyDocument=json.dumps(document))
        for arn in attached:
            self.iam.attach_group_policy(GroupName=name, PolicyArn=arn)
        self.iam.add_user_to_group(GroupName=name, UserName=user)

    def add_console(self, user: str) -> None:
        self.iam.create_login_profile(UserName=user, Password="not-a-secret-1A!")

    def add_key(self, user: str) -> str:
        return str(self.iam.create_access_key(UserName=user)["AccessKey"]["AccessKeyId"])

    def add_instance(self, *, interfaces: int = 1, volumes: int = 1) -> Instance:
        vpc = self.ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
        subnet = self.ec2.create_subnet(VpcId=vpc, CidrBlock="10.0.1.0/24")["Subnet"]["SubnetId"]
        disks = [{"DeviceName": f"/dev/sd{letter}", "Ebs": {"VolumeSize": 1}} for letter in "abcdef"[:volumes]]
        made = self.ec2.run_instances(
            ImageId=_IMAGE, MinCount=1, MaxCount=1, SubnetId=subnet, BlockDeviceMappings=disks
        )["Instances"][0]["InstanceId"]
        for index in range(1, interfaces):
            extra = self.ec2.create_network_interface(SubnetId=subnet)["NetworkInterface"]["NetworkInterfaceId"]
            self.ec2.attach_network_interface(NetworkInterfaceId=extra, InstanceId=made, DeviceIndex=index)
        instance = self.account.ec2.instance(made)
        assert instance is not None
        return instance

    def terminate(self, instance: str) -> None:
        self.ec2.terminate_instances(InstanceIds=[instance])

    def give_profile(self, instance: str) -> str:
        arn = str(self.iam.create_instance_profile(InstanceProfileName=fresh("p"))["InstanceProfile"]["Arn"])
        self.account.ec2.set_profile(instance, arn)
        return arn

    def join_group(self, instance: str) -> None:
        scaling, name = client("autoscaling", self.url), fresh("asg")
        scaling.create_launch_configuration(LaunchConfigurationName=name, ImageId=_IMAGE, InstanceType="t3.micro")
        scaling.create_auto_scaling_group(
            AutoScalingGroupName=name,
            LaunchConfigurationName=name,
            MinSize=0,
            MaxSize=3,
            DesiredCapacity=0,
            AvailabilityZones=["us-east-1a"],
        )
        scaling.attach_instances(AutoScalingGroupName=name, InstanceIds=[instance])

    def add_function(self, role: str) -> str:
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as package:
            package.writestr("main.py", "def handle(event, context): ...")
        client("lambda", self.url).create_function(
            FunctionName=(name := fresh("f")),
            Runtime="python3.11",
            Role=role,
            Handler="main.handle",
            Code={"ZipFile": archive.getvalue()},
        )
        return name

    def add_service(self, role: str) -> str:
        ecs, name = client("ecs", self.url), fresh("s")
        ecs.create_cluster(clusterName=name)
        self._define(name, role)
        ecs.create_service(cluster=name, serviceName=name, taskDefinition=name, desiredCount=2)
        return name

    def add_task(self, role: str) -> tuple[str, str]:
        ecs, name = client("ecs", self.url), fresh("t")
        ecs.create_cluster(clusterName=name)
        self._define(name, role)
        subnet = self.ec2.describe_subnets(Filters=[{"Name": "default-for-az", "Values": ["true"]}])["Subnets"][0][
            "SubnetId"
        ]
        network = {"awsvpcConfiguration": {"subnets": [subnet], "securityGroups": ["sg-1"]}}
        run = ecs.run_task(cluster=name, taskDefinition=name, launchType="FARGATE", networkConfiguration=network)
        return name, str(run["tasks"][0]["taskArn"]).rsplit("/", 1)[-1]

    def _define(self, family: str, role: str) -> None:
        client("ecs", self.url).register_task_definition(
            family=family,
            taskRoleArn=role,
            containerDefinitions=[{"name": "agent", "image": "agent", "memory": 128}],
            requiresCompatibilities=["FARGATE"],
            networkMode="awsvpc",
            cpu="256",
            memory="512",
        )

    def add_secret(self) -> str:
        return str(client("secretsmanager", self.url).create_secret(Name=fresh("s"), SecretString="x")["ARN"])

    def drop_secret(self, arn: str) -> None:
        client("secretsmanager", self.url).delete_secret(SecretId=arn, ForceDeleteWithoutRecovery=True)

    def add_database(self) -> str:
        client("rds", self.url).create_db_instance(
            DBInstanceIdentifier=(name := fresh("db")),
            DBInstanceClass="db.t3.micro",
            Engine="postgres",
            MasterUsername="owner",
            MasterUserPassword="not-a-secret-1A",
            AllocatedStorage=20,
        )
        return name

    def member(self) -> str:
        organizations = client("organizations", self.url)
        with suppress(organizations.exceptions.AlreadyInOrganizationException):
            organizations.create_organization(FeatureSet="ALL")
        made = organizations.create_account(AccountName="agents", Email=f"{fresh('a')}@example.com")
        return str(made["CreateAccountStatus"]["AccountId"])


@dataclass
class Faulty:
    """A port with scripted trouble in front of it, as every simulator has it."""

    port: Any
    faults: Faults

    def __getattr__(self, method: str) -> Callable[..., Any]:
        real = getattr(self.port, method)

        def call(*arguments: Any, **named: Any) -> Any:
            self.faults.before(method)
            answer = real(*arguments, **named)
            self.faults.after(method)
            return answer

        return call


@cache
def _account(url: str) -> AwsAccount:
    return aws_account(account=Real.id, region=REGION, endpoint_url=url, credentials=CREDENTIALS)


@cache  # making one reads megabytes of service description
def client(service: str, url: str) -> Any:
    """A raw client, for what no port does."""
    return boto3.client(
        service,
        region_name=REGION,
        endpoint_url=url,
        aws_access_key_id=CREDENTIALS["access_key_id"],
        aws_secret_access_key=CREDENTIALS["secret_access_key"],
    )


def fresh(kind: str) -> str:
    """A name that no other test of this run uses: moto is shared."""
    return f"{kind}-{uuid.uuid4().hex[:8]}"
