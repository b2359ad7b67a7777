"""The JSON that comes in, field by field. Imported on use, for Pydantic is slow to load.

It must not decide anything that needs the database.
"""

import json
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    RootModel,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)

from chalicelib import documents
from chalicelib.core import names
from chalicelib.core.addresses import is_domain
from chalicelib.core.auto_provisioning import Claim
from chalicelib.core.codes import Entry, Lifetime, read_entry
from chalicelib.core.devices import DeviceType, Facts, parse_hw_id
from chalicelib.core.errors import Fault, InvalidRequestError
from chalicelib.core.rollouts import MAX_USERS
from chalicelib.core.user_objects import FindBy, Flag
from chalicelib.roles.devices import Outcome

NAME = r"^[^#\x00-\x1f\x7f]+$"
MAX_KEEP_OLD_SECONDS = 366 * 86_400

Name = Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=NAME)]
DomainName = Annotated[str, StringConstraints(min_length=1, max_length=253, pattern=NAME)]
Text = Annotated[str, StringConstraints(max_length=200)]
Typed = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Build = Annotated[str, StringConstraints(max_length=32, pattern=r"^[0-9A-Za-z._-]*$")]


def _hw_id(text: str) -> str:
    hw_id = parse_hw_id(text)
    if hw_id is None:
        raise ValueError("12 hex digits")
    return hw_id


HwId = Annotated[str, AfterValidator(_hw_id)]


def _new_domain(text: str) -> str:
    if not is_domain(text):
        raise ValueError("letters, digits, - and _, in parts with dots between: example.com")
    return text


def _new_name(text: str) -> str:
    for fault in names.faults("", text):
        raise ValueError(fault.message)
    return text


class _Body(BaseModel):
    """A body: types as they are sent, nothing converted."""

    model_config = ConfigDict(strict=True, frozen=True, defer_build=True)


def checked(kind: Any, value: str, field: str) -> str:  # noqa: ANN401 - one of the types above
    """Check a part of a path as a member of a body would be.

    Raises:
        InvalidRequestError: it is not of this kind.
    """
    try:
        return str(TypeAdapter(kind).validate_python(value))
    except ValidationError as error:
        raise InvalidRequestError(
            *(Fault(field, documents.wording(found)) for found in error.errors())
        ) from None


class IssueCode(_Body):
    """`POST /me/codes`."""

    category: Name


class Platform(_Body):
    """What kind of device it is."""

    type: DeviceType


class _Identify(_Body):
    """`POST /devices/register`; members as in the vendor's identify message, others are ignored."""

    id: HwId
    product: Text
    version: Text
    platform: Platform
    name: Text = ""
    fw_build: Build = Field(default="", alias="fwBuild")
    bc_build: Build = Field(default="", alias="bcBuild")

    def facts(self) -> Facts:
        """Tell what the device says of itself."""
        return Facts(
            product=self.product,
            version=self.version,
            prot=self.fw_build,
            boot=self.bc_build,
            name=self.name,
            device_type=self.platform.type,
        )


class IdentifyByCode(_Identify):
    """With a code; one that is no code at all is a fault, any other is looked up."""

    provisioning_code: Typed = Field(alias="provisioningCode", repr=False)

    @field_validator("provisioning_code")
    @classmethod
    def _is_code(cls, text: str) -> str:
        if read_entry(text) is None:
            raise ValueError("there is no code")
        return text

    def grounds(self) -> Entry | Claim:
        """Tell what registers it."""
        return read_entry(self.provisioning_code) or Entry(None)


class IdentifyByClaim(_Identify):
    """With its domain's security token."""

    domain: DomainName
    token: Typed = Field(repr=False)
    category: Typed

    def grounds(self) -> Entry | Claim:
        """Tell what registers it."""
        return Claim(self.domain, self.token, self.category)


def identify_of(body: str | bytes) -> type[IdentifyByCode] | type[IdentifyByClaim]:
    """Tell which of the two a body is: a code counts more than a domain's token."""
    try:
        told = json.loads(body)
    except (ValueError, RecursionError):
        return IdentifyByCode
    has_claim = isinstance(told, dict) and {"domain", "token", "category"} & set(told)
    has_code = isinstance(told, dict) and told.get("provisioningCode") is not None
    return IdentifyByClaim if has_claim and not has_code else IdentifyByCode


class JobReport(_Body):
    """`POST /devices/{hw_id}/jobs/{job_id}`."""

    outcome: Outcome = Field(strict=False)
    reason: Text = ""


class DomainSettings(_Body):
    """`PATCH /domains/{domain}`: what is not there stays as it is."""

    model_config = ConfigDict(extra="forbid")

    devices_url: Annotated[str, StringConstraints(max_length=1_000)] = ""
    phone_apps: Annotated[list[Name], Field(max_length=20)] = []
    may_add_phones: bool = True
    granted_domains: Annotated[list[DomainName], Field(max_length=100)] = []
    websocket_password: Annotated[str, StringConstraints(max_length=100)] = Field("", repr=False)

    def given(self) -> dict[str, Any]:
        """Tell what was sent."""
        return {name: getattr(self, name) for name in sorted(self.model_fields_set)}


class NewDomain(DomainSettings):
    """`POST /domains`."""

    domain: Annotated[DomainName, AfterValidator(_new_domain)]


class PbxSettings(_Body):
    """`PUT /domains/{domain}/pbx`."""

    model_config = ConfigDict(extra="forbid")

    address: Annotated[str, StringConstraints(max_length=1_000)]
    app_object: Name
    password: Annotated[str, StringConstraints(max_length=100)] = Field("", repr=False)
    find_by: FindBy = Field(default=FindBy.SIP, strict=False)
    reverse_proxy: bool = False
    tls_only: bool = False
    no_mobility: bool = False
    imports_users: bool | None = None

    def given(self) -> dict[str, Any]:
        """Tell what was sent, each flag that is set by its name, without what stays as it was."""
        flags = [flag.name.lower() for flag in Flag if getattr(self, flag.name.lower())]
        sent = {
            "address": self.address,
            "app_object": self.app_object,
            "find_by": self.find_by,
            "flags": flags,
        }
        kept = {"password": self.password or None, "imports_users": self.imports_users}
        return sent | {name: value for name, value in kept.items() if value is not None}


class CategorySettings(_Body):
    """`PUT /domains/{domain}/categories/{category}`."""

    model_config = ConfigDict(extra="forbid")

    provisioning: bool = False
    device_types: Annotated[list[Literal["PHONE", "ANALOG_PHONE"]], Field(max_length=2)] = []


class NewToken(_Body):
    """`PUT /domains/{domain}/token`."""

    model_config = ConfigDict(extra="forbid")

    category: Name
    token: Annotated[str, StringConstraints(max_length=1_000)] | None = Field(None, repr=False)
    keep_old_seconds: Annotated[int, Field(ge=0, le=MAX_KEEP_OLD_SECONDS)] | None = None


class Firmware(RootModel[dict[str, JsonValue]]):
    """`PUT /domains/{domain}/firmware`; core/firmware.py knows what must be in it."""


class NewSoftwareJob(_Body):
    """`POST /domains/{domain}/jobs/software`."""

    model_config = ConfigDict(extra="forbid")

    category: Name


class NewConfigurationJob(_Body):
    """`POST /domains/{domain}/jobs/config`; core/configuration.py knows the types."""

    model_config = ConfigDict(extra="forbid")

    category: Name
    type: Typed
    parameters: dict[str, JsonValue] = Field(repr=False)


class DeviceChange(_Body):
    """`PATCH /domains/{domain}/devices/{hw_id}`."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[Text, AfterValidator(lambda text: text and _new_name(text))] | None = None
    category: Name | None = None


class Replacement(_Body):
    """`POST /domains/{domain}/devices/{hw_id}/replace`."""

    model_config = ConfigDict(extra="forbid")

    hw_id: HwId


class NewUser(_Body):
    """A user; core/roster.py knows what is right for each member."""

    model_config = ConfigDict(extra="forbid")

    sip: str
    name: str = ""
    number: str = ""
    email: str = ""
    may_add_phones: bool | None = None

    def told(self) -> dict[str, Any]:
        """Tell what was sent, beside the sip."""
        sent = self.model_fields_set - {"sip"}
        return {name: getattr(self, name) for name in sorted(sent)}


class NewUsers(_Body):
    """`POST /users`, as JSON."""

    model_config = ConfigDict(extra="forbid")

    users: Annotated[list[NewUser], Field(min_length=1, max_length=MAX_USERS)]


class NewRollout(_Body):
    """`POST /rollouts`."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[Typed, AfterValidator(_new_name)]
    category: Name
    app: Text = ""
    note: Annotated[str, StringConstraints(max_length=1_000)] = ""
    users: Annotated[list[Name], Field(max_length=MAX_USERS)] = []


class NewEntries(_Body):
    """`POST /rollouts/{rollout_id}/entries`."""

    model_config = ConfigDict(extra="forbid")

    users: Annotated[list[Name], Field(min_length=1, max_length=MAX_USERS)]


class EntrySelection(_Body):
    """`POST /rollouts/{rollout_id}/extend`, `reissue` and `revoke`: of some users, or of all."""

    model_config = ConfigDict(extra="forbid")

    users: Annotated[list[Name], Field(min_length=1, max_length=MAX_USERS)] | None = None
    cursor: str | None = None

    @model_validator(mode="after")
    def _is_one_of_two(self) -> Self:
        if self.users is not None and self.cursor is not None:
            raise ValueError("a selection has no cursor: users and cursor exclude each other")
        return self


class NewInstallation(_Body):
    """`POST /installations`."""

    model_config = ConfigDict(extra="forbid")

    name: Name


class ForeignCode(_Body):
    """`POST /provisioning/codes`."""

    devices_url: Annotated[str, StringConstraints(max_length=1_000)]
    lifetime: Lifetime = Field(default=Lifetime.USER, strict=False)
