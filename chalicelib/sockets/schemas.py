"""The members of messages that come in, field by field. Imported on use, for Pydantic is slow.

Members that nobody knows are ignored, as the vendor's own services do.
"""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from chalicelib.core.app_login import Login, raw_member
from chalicelib.core.codes import Entry, read_entry
from chalicelib.core.devices import DeviceType, is_interface, parse_hw_id

MAX_NUMBER = 2**53
_MAX_NUMBERS = 200

Text = Annotated[str, StringConstraints(max_length=1_000)]
DomainName = Annotated[str, StringConstraints(max_length=253)]
Sip = Annotated[str, StringConstraints(max_length=100, pattern=r"^[^#\x00-\x1f\x7f]*$")]
Number = Annotated[int, Field(ge=0, le=MAX_NUMBER)]


def _numbers(text: str) -> str:
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if len(parts) > _MAX_NUMBERS or not all(part.isdecimal() and len(part) < 16 for part in parts):  # noqa: PLR2004 - below 2^53
        raise ValueError("numbers with commas between them")
    return text


Numbers = Annotated[str, StringConstraints(max_length=4_000), AfterValidator(_numbers)]


def _hw_id(text: str) -> str:
    hw_id = parse_hw_id(text)
    if hw_id is None:
        raise ValueError("12 hex digits")
    return hw_id


def _interface(text: str) -> str:
    if not is_interface(text):
        raise ValueError("an interface: one short word")
    return text


HwId = Annotated[str, AfterValidator(_hw_id)]
Interface = Annotated[str, AfterValidator(_interface)]


class _Members(BaseModel):
    """Members: types as they are sent, nothing converted."""

    model_config = ConfigDict(strict=True, frozen=True, defer_build=True)


class AppLogin(_Members):
    """`AppLogin`; `info` is hashed as it was received, so it is only checked to be an object."""

    app: Text = ""
    domain: DomainName = ""
    sip: Text = ""
    guid: Text = ""
    dn: Text = ""
    digest: Text = Field("", repr=False)
    info: dict[str, object] | None = None

    def login(self, text: str) -> Login:
        """Make the login, with `info` cut out of the message's text."""
        return Login(
            self.app,
            self.domain,
            self.sip,
            self.guid,
            self.dn,
            self.digest,
            raw_member(text, "info"),
        )


class UserLogin(_Members):
    """`UserLogin`."""

    token: Annotated[str, StringConstraints(min_length=1, max_length=8_192)] = Field(repr=False)


class AppInfo(_Members):
    """`AppInfo`."""

    app: Text = ""


class GetProvisioningCategories(_Members):
    """`GetProvisioningCategories`."""

    domain_id: Number | None = Field(None, alias="domainId")
    type: DeviceType | None = None


class GetProvisioningCode(_Members):
    """`GetProvisioningCode`."""

    domain_id: Number | None = Field(None, alias="domainId")
    category: Annotated[str, StringConstraints(min_length=1, max_length=100)]
    sip: Sip = ""
    rollout: bool = False


class GetProvisionedDevice(_Members):
    """`GetProvisionedDevice`."""

    domain_id: Number | None = Field(None, alias="domainId")
    code: Annotated[str, StringConstraints(min_length=1, max_length=200)] = Field(repr=False)

    def entry(self) -> Entry:
        """Read the code as it was typed."""
        return read_entry(self.code) or Entry(None)


class GetDevices(_Members):
    """`GetDevices`; numbers with commas between them."""

    domain_ids: Numbers | None = Field(None, alias="domainIds")
    categories: Numbers | None = None
    unassigned: bool = False

    def domain_numbers(self) -> list[int] | None:
        """Tell the numbers of the domains, None for all."""
        return _split(self.domain_ids)

    def category_numbers(self) -> list[int] | None:
        """Tell the numbers of the categories, None for all."""
        return _split(self.categories)


class GetDevicePhones(_Members):
    """`GetDevicePhones`."""

    hw_id: HwId = Field(alias="hwId")


class RemoveDevicePhone(_Members):
    """`RemoveDevicePhone`; `id` is the interface."""

    hw_id: HwId = Field(alias="hwId")
    id: Interface


def _split(text: str | None) -> list[int] | None:
    found = dict.fromkeys(int(part) for part in (text or "").split(",") if part.strip())
    return list(found) or None
