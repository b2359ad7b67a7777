"""The service API of Devices for Users instances: a function for each message.

Source: the vendor's description of the service `com.innovaphone.devices`.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from chalicelib import settings
from chalicelib.roles import instances
from chalicelib.roles.instances import Instance
from chalicelib.sockets import vendor

if TYPE_CHECKING:
    from chalicelib.core.devices import Device
    from chalicelib.sockets.frames import Message
    from chalicelib.storage.connections import Connection


def login_info(message: "Message", known: "Connection") -> Iterable[str]:
    """Tell a Users instance its session key, and whether it administers all domains."""
    asking = _instance(message, known)
    return [message.result(key=instances.session_key(asking), admin=asking.is_admin)]


def list_domains(message: "Message", known: "Connection") -> Iterable[str]:
    """List the domains that it may see."""
    instance = settings.current().instance_domain
    found = instances.domains_of(_instance(message, known))
    items = (vendor.domain(domain, categories, instance) for domain, categories in found)
    return message.results("domains", items)


def list_devices(message: "Message", known: "Connection") -> Iterable[str]:
    """List devices; one that is nobody's is in no domain, so there are none unassigned.

    Analogue phones are no devices to the vendor: `GetDevicePhones` lists them, by their gateway.
    """
    from chalicelib.sockets import schemas

    told = message.read(schemas.GetDevices)
    if told.unassigned:
        return message.results("devices", [])
    asking = _instance(message, known)
    pages = instances.list_devices(asking, told.domain_numbers(), told.category_numbers())
    items = (
        _device(asking, device, domain.number, message)
        for domain, page in pages
        for device in page
        if not device.gateway
    )
    return message.results("devices", items)


def list_categories(message: "Message", known: "Connection") -> Iterable[str]:
    """List the categories that codes can be asked for."""
    from chalicelib.sockets import schemas

    told = message.read(schemas.GetProvisioningCategories)
    domain, found = instances.provisioning_categories(
        _instance(message, known), told.domain_id, told.type
    )
    items = ({"domainId": domain.number, **vendor.category(each)} for each in found)
    return message.results("categories", items)


def issue_code(message: "Message", known: "Connection") -> Iterable[str]:
    """Issue a code."""
    from chalicelib.sockets import schemas

    told = message.read(schemas.GetProvisioningCode)
    order = instances.CodeOrder(told.domain_id, told.category, told.sip, told.rollout)
    issued = instances.issue_code(_instance(message, known), order)
    valid_until = int(issued.code.expires_at.timestamp())
    return [message.result(code=issued.digits, validUntil=valid_until)]


def provisioned_device(message: "Message", known: "Connection") -> Iterable[str]:
    """Tell which device a code was redeemed for; if none yet, `DeviceProvisioned` follows."""
    from chalicelib.sockets import schemas

    told = message.read(schemas.GetProvisionedDevice)
    asking = _instance(message, known)
    device = instances.provisioned_device(asking, told.domain_id, told.entry())
    if device is None:
        return [message.result(code=told.code)]
    number = instances.number_of(device.domain)
    return [message.result(code=told.code, device=_device(asking, device, number, message))]


def _device(asking: Instance, device: "Device", number: int, message: "Message") -> dict[str, Any]:
    online = vendor.is_online(device, message.now)
    uri = instances.passthrough_url(asking, device) if online else ""
    return vendor.device(device, number, is_online=online, uri=uri)


def list_phones(message: "Message", known: "Connection") -> Iterable[str]:
    """List the interfaces of a gateway that have an analogue phone."""
    from chalicelib.sockets import schemas

    told = message.read(schemas.GetDevicePhones)
    found = instances.interfaces_with_phones(_instance(message, known), told.hw_id)
    return message.results("phones", found)


def remove_phone(message: "Message", known: "Connection") -> Iterable[str]:
    """Forget the analogue phone at an interface of a gateway."""
    from chalicelib.sockets import schemas

    told = message.read(schemas.RemoveDevicePhone)
    instances.remove_phone_at(_instance(message, known), told.hw_id, told.id)
    return [message.result()]


def _instance(message: "Message", known: "Connection") -> Instance:
    return Instance(known, message.src, message.now)
