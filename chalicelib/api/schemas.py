"""The JSON that comes in, field by field. Imported on use, for Pydantic is slow to load.

It must not decide anything that needs the database.
"""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from chalicelib.core.devices import Facts, parse_hw_id
from chalicelib.roles.devices import Outcome

Name = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^#\x00-\x1f]+$")]
Text = Annotated[str, StringConstraints(max_length=200)]
Build = Annotated[str, StringConstraints(max_length=32, pattern=r"^[0-9A-Za-z._-]*$")]


def _hw_id(text: str) -> str:
    hw_id = parse_hw_id(text)
    if hw_id is None:
        raise ValueError("12 hex digits")
    return hw_id


HwId = Annotated[str, AfterValidator(_hw_id)]


class _Body(BaseModel):
    """A body: types as they are sent, nothing converted."""

    model_config = ConfigDict(strict=True, frozen=True, defer_build=True)


class IssueCode(_Body):
    """`POST /me/codes`."""

    category: Name


class Platform(_Body):
    """What kind of device it is."""

    type: Literal["VA", "GW", "PHONE", "DECT", "APP_PLATFORM"]


class Identify(_Body):
    """`POST /devices/register`; members as in the vendor's identify message, others are ignored."""

    id: HwId
    product: Text
    version: Text
    platform: Platform
    name: Text = ""
    fw_build: Build = Field(default="", alias="fwBuild")
    bc_build: Build = Field(default="", alias="bcBuild")
    provisioning_code: str = Field(alias="provisioningCode", min_length=1, max_length=200)

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


class JobReport(_Body):
    """`POST /devices/{hw_id}/jobs/{job_id}`."""

    outcome: Outcome = Field(strict=False)
    reason: Text = ""
