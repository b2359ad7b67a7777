"""Devices in a browser: what administrators set up reaches phones; what is refused is said."""

import json
import re

import pytest
from playwright.sync_api import Locator, Page, Route, expect

from tests.browser.conftest import Visitor
from tests.browser.test_pages import assert_open_to_everybody
from tests.browser.test_profile import SHIFTS, provision
from tests.local.served import Served

MAC = "00-90-33-6C-00-{:02X}"
HW_ID = "0090336c00{:02x}"
NOT_FOUND = 404
PARTS = ("devices", "jobs", "categories", "automatic", "settings", "audit")
FIRMWARE = {"IP232": {"prot": {"build": "139999", "url": "https://firmware.example.com/new.bin"}}}


def go(page: Page, *parts: str) -> Locator:
    """Go to a part, and wait until it shows."""
    page.evaluate("where => { location.hash = where }", "#/devices/" + "/".join(parts))
    page.wait_for_function(
        "where => document.querySelector('.parts [aria-current]')?.hash.startsWith(where)",
        arg="#/devices/" + "/".join(parts[:2]),
    )
    heading = page.locator("h2#part")
    heading.wait_for()
    page.wait_for_load_state("networkidle")
    return heading


def confirm(page: Page, words: str) -> str:
    """Say yes to what a dialog asks, and tell what it said."""
    dialog = page.get_by_role("dialog")
    said = dialog.get_by_role("paragraph").first.inner_text()
    dialog.get_by_role("button", name=words).click()
    return said


def form_with(page: Page, button: str) -> Locator:
    """Find the form that a button sends."""
    return page.locator("form").filter(has=page.get_by_role("button", name=button, exact=True))


def add_phone(served: Served, user: str, number: int) -> None:
    """Let somebody's simulated phone register."""
    provision(served, served.code(served.token(user)), number)


def test_a_software_job_is_made_and_explained(visitor: Visitor, served: Served) -> None:
    """What it changes is said before; then a device shows that it has to do it, once."""
    add_phone(served, "user1", 0x11)
    page = visitor.open()
    visitor.sign_in(page, "admin")
    go(page, "example.com", "jobs")
    page.get_by_label("Firmware (JSON)").fill("{")
    page.get_by_role("button", name="Save the firmware").click()
    expect(page.locator(".fault")).to_contain_text("This is no JSON")
    expect(page.get_by_label("Firmware (JSON)")).to_be_focused()
    page.get_by_label("Firmware (JSON)").fill('{"IP232": {"prot": {"build": "!"}}}')
    page.get_by_role("button", name="Save the firmware").click()
    expect(page.locator(".fault")).to_contain_text("IP232.prot.build")
    expect(page.locator(".fault")).to_contain_text("IP232.prot.url")
    page.get_by_label("Firmware (JSON)").fill(json.dumps(FIRMWARE))
    page.get_by_role("button", name="Save the firmware").click()
    expect(page.get_by_text("The firmware is saved.").first).to_be_visible()
    software = page.locator("form").filter(has=page.get_by_text("New software job"))
    software.get_by_role("combobox").select_option("Office")
    posts: list[str] = []
    page.on("request", lambda asked: posts.append(asked.url) if asked.method == "POST" else None)
    software.get_by_role("button", name="Make the job").dblclick()
    said = confirm(page, "Make the job")
    assert re.match(r"Software is for the devices of the category Office, at this moment \d", said)
    assert "It takes the place of the job of this type for Office that was made" in said
    expect(page.get_by_text("Made: Software for Office.").first).to_be_visible()
    assert len(posts) == 1
    go(page, "example.com", "devices")
    page.get_by_label("MAC").fill("0090.336c.0011")
    page.get_by_role("button", name="Find").click()
    jobs = page.get_by_role("table", name="Its jobs")
    row = jobs.get_by_role("row", name="Software")
    expect(row.get_by_text("to do")).to_be_visible()
    expect(jobs.get_by_role("row", name="Raw lines").get_by_text("done")).to_be_visible()
    page.get_by_text("Jobs that it does not get: 1").click()
    expect(page.get_by_text("not this one: a later job of its type counts")).to_be_visible()
    visitor.expect_complaints("status of 400")


def test_a_configuration_form_shows_faults_at_their_fields(visitor: Visitor) -> None:
    """It is made from the service's list of types; secrets are never shown."""
    page = visitor.open()
    visitor.sign_in(page, "admin")
    go(page, "example.com", "jobs")
    form = page.locator("form").filter(has=page.get_by_text("New configuration job"))
    form.get_by_label("Category").select_option("Reception")
    form.get_by_label("Type").select_option("phone")
    expect(form.get_by_label("Password")).to_have_attribute("type", "password")
    form.get_by_label("PBX (required)").fill("no host")
    form.get_by_label("Password").fill("very-secret")
    form.get_by_role("button", name="Make the job").click()
    confirm(page, "Make the job")
    expect(form.locator('[data-field="pbx"] .fault')).to_contain_text("host name")
    expect(form.get_by_label("PBX (required)")).to_be_focused()
    expect(form.get_by_label("Password")).to_have_value("very-secret")
    form.get_by_label("PBX (required)").fill("pbx.example.com")
    expect(form.locator(".fault")).to_have_count(0)
    form.get_by_role("button", name="Make the job").click()
    said = confirm(page, "Make the job")
    assert "There is no job of this type for them yet." in said
    row = page.get_by_role("table", name="Configuration").get_by_role("row", name="Registration")
    row.get_by_text("Values").click()
    expect(row.locator("pre")).to_contain_text('"password": "***"')
    expect(form.get_by_label("Password")).to_have_value("")
    row.get_by_role("button", name="Delete").click()
    confirm(page, "Delete")
    expect(row).to_have_count(0)
    visitor.expect_complaints("status of 400")


def test_names_and_lines_become_a_job(visitor: Visitor) -> None:
    """As rows and as lines; a name that is there twice is said at once."""
    page = visitor.open()
    visitor.sign_in(page, "admin")
    go(page, "example.com", "jobs")
    form = page.locator("form").filter(has=page.get_by_text("New configuration job"))
    form.get_by_label("Category").select_option("*")
    form.get_by_label("Type").select_option("variables")
    group = form.get_by_role("group", name="Variables", exact=True)
    group.get_by_label("Name").fill("SITE")
    group.get_by_label("Value").fill("1")
    group.get_by_role("button", name="Add a line").click()
    expect(group.get_by_label("Name").nth(1)).to_be_focused()
    group.get_by_label("Name").nth(1).fill("SITE")
    form.get_by_role("button", name="Make the job").click()
    expect(group.locator(".fault")).to_have_text("SITE is there twice.")
    group.get_by_label("Name").nth(1).fill("FLOOR")
    form.get_by_role("button", name="Make the job").click()
    confirm(page, "Make the job")
    expect(group.locator(".row").nth(1).locator(".fault")).to_contain_text("one printable line")
    group.get_by_label("Value").nth(1).fill("2")
    form.get_by_label("Type").select_option("expert")
    form.get_by_label("Lines", exact=True).fill("config add UP1 /x\n\nconfig add UP1 /y\n")
    form.get_by_label("Type").select_option("variables")
    expect(group.get_by_label("Name").nth(1)).to_have_value("FLOOR")
    form.get_by_role("button", name="Make the job").click()
    assert "for all devices of the domain" in confirm(page, "Make the job")
    expect(page.get_by_text("Made: Variables for every category.").first).to_be_visible()
    row = page.get_by_role("table", name="Configuration").get_by_role("row", name="Variables")
    row.get_by_text("Values").click()
    expect(row.locator("pre")).to_contain_text("FLOOR")
    visitor.expect_complaints("status of 400")


def test_automatic_provisioning_is_turned_on_and_its_line_copied(
    visitor: Visitor, served: Served
) -> None:
    """A weak token is said to be one; a drawn one takes its place, and off is off."""
    served.ask("DELETE", "/api/domains/example.com/token", token=served.token("admin"))
    visitor.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = visitor.open()
    visitor.sign_in(page, "admin")
    go(page, "example.com", "automatic")
    page.get_by_role("button", name="Show the lines").click()
    expect(page.get_by_text("Automatic provisioning is off.")).to_be_visible()
    page.get_by_label("Token", exact=True).fill("aaaaaaaaaaaa")
    page.get_by_role("button", name="Set the token").click()
    confirm(page, "Set the token")
    expect(page.get_by_text("This token could be guessed")).to_be_visible()
    expect(page.get_by_text("Do not send the line through a web browser")).to_be_visible()
    page.get_by_role("button", name="Set the token").click()
    confirm(page, "Set the token")
    expect(page.get_by_text("This token could be guessed")).to_be_hidden()
    expect(page.get_by_text("The token before counts until")).to_be_visible()
    page.get_by_role("button", name="Copy: Config line for update clients").click()
    line = page.evaluate("navigator.clipboard.readText()")
    assert line.startswith("config add UP1 /url http%3A")
    assert "%26category%3DOffice" in line
    page.get_by_role("button", name="Copy: V12 clean-up").click()
    assert "config rem UP1 /provision" in page.evaluate("navigator.clipboard.readText()")
    page.get_by_role("button", name="Turn off").click()
    confirm(page, "Turn off")
    expect(page.get_by_text("Automatic provisioning is off.").first).to_be_visible()
    expect(page.get_by_text("config add UP1 /url")).to_have_count(0)
    visitor.expect_complaints("status of 404")


def test_a_domain_and_its_category_are_made_and_deleted(visitor: Visitor) -> None:
    """An empty domain says what to do first; what is in use stays, and it is said by what."""
    page = visitor.open()
    visitor.sign_in(page, "platform")
    go(page, "example.com", "platform")
    page.get_by_label("Name of the new domain").fill("example.com")
    page.get_by_role("button", name="Make the domain").click()
    expect(page.get_by_text("There is a domain of this name already.")).to_be_visible()
    page.get_by_label("Name of the new domain").fill("Bad Domain!")
    page.get_by_role("button", name="Make the domain").click()
    fault = page.locator('[data-field="domain"] .fault')
    expect(fault).to_have_text("letters, digits, - and _, in parts with dots between: example.com")
    expect(page.get_by_label("Name of the new domain")).to_be_focused()
    page.get_by_label("Name of the new domain").fill("new.example")
    page.get_by_role("button", name="Make the domain").dblclick()
    page.get_by_role("link", name="Go on: categories of new.example").click()
    expect(page.get_by_text("There is no category yet.")).to_be_visible()
    go(page, "new.example", "devices")
    expect(page.get_by_text("This domain has no category yet")).to_be_visible()
    page.get_by_role("link", name="Make a category").click()
    page.get_by_label("Name", exact=True).fill("Front desk")
    page.get_by_role("button", name="Make a category").click()
    row = page.get_by_role("row", name="Front desk")
    expect(row).to_contain_text("yes")
    row.get_by_role("button", name="Change").click()
    page.get_by_label("Codes and automatic provisioning").uncheck()
    page.get_by_role("button", name="Save").click()
    expect(row).to_contain_text("no")
    go(page, "new.example", "platform")
    page.get_by_role("button", name="Delete new.example").click()
    confirm(page, "Delete")
    expect(page.get_by_role("alert")).to_contain_text("categories: 1")
    go(page, "new.example", "categories")
    page.get_by_role("button", name="Delete Front desk").click()
    confirm(page, "Delete")
    expect(page.get_by_text("There is no category yet.")).to_be_visible()
    go(page, "new.example", "platform")
    page.get_by_role("button", name="Delete new.example").click()
    confirm(page, "Delete")
    expect(page.get_by_text("new.example is deleted.").first).to_be_visible()
    visitor.expect_complaints("status of 409", "status of 400")


def test_an_installation_shows_its_key_once(visitor: Visitor) -> None:
    """And goes again."""
    page = visitor.open()
    visitor.sign_in(page, "platform")
    go(page, "example.com", "platform")
    page.get_by_role("button", name="Make the installation").click()
    expect(page.locator('[data-field="name"] .fault')).to_have_text("This is missing.")
    page.get_by_label("Name of the new installation").fill("Branch")
    page.get_by_role("button", name="Make the installation").click()
    expect(page.get_by_role("group", name="Key of Branch")).to_contain_text(".")
    go(page, "example.com", "settings")
    go(page, "example.com", "platform")
    expect(page.get_by_text("Key of Branch")).to_have_count(0)
    page.get_by_role("button", name="Delete Branch").click()
    confirm(page, "Delete")
    expect(page.get_by_text("There is no installation yet.")).to_be_visible()
    visitor.expect_complaints("status of 400")


def test_a_device_is_changed_and_replaced(visitor: Visitor, served: Served) -> None:
    """Renamed, moved, replaced by a phone that needs a code, and removed."""
    add_phone(served, "user2", 0x12)
    page = visitor.open()
    visitor.sign_in(page, "admin")
    go(page, "example.com", "devices", HW_ID.format(0x12))
    page.get_by_label("Name", exact=True).fill("Lobby")
    page.get_by_role("button", name="Rename").click()
    expect(page.get_by_role("heading", name="Lobby")).to_be_visible()
    form_with(page, "Move").get_by_role("combobox").select_option("Reception")
    expect(form_with(page, "Move").get_by_role("status")).to_contain_text("There it gets")
    page.get_by_role("button", name="Move", exact=True).click()
    assert "its next poll brings that category's jobs" in confirm(page, "Move")
    expect(page.get_by_text("Lobby is in Reception now.").first).to_be_visible()
    page.get_by_label("MAC of the new phone").fill("wrong")
    page.get_by_role("button", name="Replace").click()
    expect(page.locator('[data-field="hw_id"] .fault')).to_contain_text("This is no MAC")
    page.get_by_label("MAC of the new phone").fill(MAC.format(0x13))
    page.get_by_role("button", name="Replace").click()
    assert "is released at once" in confirm(page, "Replace")
    expect(page.locator(".code")).to_be_visible()
    old = f"/api/domains/example.com/devices/{HW_ID.format(0x12)}"
    assert served.ask("GET", old, token=served.token("admin"))[0] == NOT_FOUND
    page.get_by_role("link", name=MAC.format(0x13).lower()).click()
    expect(page.get_by_role("heading", name="Lobby")).to_be_visible()
    page.get_by_role("button", name="Remove").click()
    confirm(page, "Remove")
    expect(page.get_by_role("heading", name="List")).to_be_visible()
    expect(page.get_by_text("Lobby", exact=True)).to_have_count(0)


def test_a_category_that_is_there_is_not_made_anew(visitor: Visitor) -> None:
    """Nor is one without a name, and the one that is there stays as it was."""
    page = visitor.open()
    visitor.sign_in(page, "admin")
    go(page, "example.com", "categories")
    form = page.get_by_role("form", name="Make a category")
    form.get_by_role("button", name="Make a category").click()
    expect(form.locator(".fault")).to_have_text("This is missing.")
    form.get_by_label("Name").fill("Reception")
    form.get_by_label("Codes and automatic provisioning").uncheck()
    form.get_by_role("button", name="Make a category").click()
    expect(form.locator(".fault")).to_have_text("There is a category of this name already.")
    expect(page.get_by_role("row", name="Reception")).to_contain_text("yes")


def test_a_question_goes_with_its_page(visitor: Visitor, served: Served) -> None:
    """Whoever goes back has not agreed; whoever agrees reads what was done, one page on."""
    add_phone(served, "user7", 0x16)
    page = visitor.open()
    visitor.sign_in(page, "admin")
    go(page, "example.com", "devices")
    go(page, "example.com", "devices", HW_ID.format(0x16))
    page.get_by_role("button", name="Release").click()
    page.get_by_role("dialog").wait_for()
    page.go_back()
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(page.get_by_text(MAC.format(0x16).lower())).to_be_visible()
    go(page, "example.com", "devices", HW_ID.format(0x16))
    expect(page).to_have_title(re.compile("^Device . Devices . Dialtone$"))
    page.get_by_role("button", name="Release").click()
    confirm(page, "Release")
    expect(page.locator("p.done")).to_contain_text("was released")


def test_a_device_is_found_and_listed(visitor: Visitor, served: Served) -> None:
    """By category and state; what is no MAC is said, and so is a device that is not there."""
    add_phone(served, "user3", 0x14)
    page = visitor.open()
    visitor.sign_in(page, "admin")
    go(page, "example.com", "devices")
    devices = page.get_by_role("table", name="List")
    expect(devices.get_by_text(MAC.format(0x14).lower())).to_be_visible()
    page.get_by_label("Category").select_option("Gateways")
    expect(page.get_by_text("There is no such device.")).to_be_visible()
    page.get_by_label("MAC").fill("0090")
    page.get_by_label("MAC").press("Enter")
    expect(page.locator(".fault")).to_contain_text("This is no MAC")
    page.get_by_label("MAC").fill("009033ffffff")
    page.get_by_label("MAC").press("Enter")
    expect(page.get_by_role("alert")).to_have_text("There is no such device in this domain.")
    page.get_by_role("link", name="All devices").click()
    expect(devices).to_be_visible()
    visitor.expect_complaints("status of 404")


def test_what_is_still_to_come_is_said_and_nothing_moves_when_it_comes(visitor: Visitor) -> None:
    """To those who see and to those who hear, the page first and then its part."""
    held: list[Route] = []
    visitor.context.add_init_script(SHIFTS)
    page = visitor.open()
    visitor.sign_in(page, "admin")
    page.get_by_role("button", name="Get a code").wait_for()
    for path in ("**/domains?limit=100", "**/example.com/devices?limit=50"):
        page.route(path, lambda route: held.append(route))  # noqa: PLW0108 - Playwright marks what it is given
    page.evaluate("shifts.length = 0; location.hash = '#/devices'")
    for shows in ("heading", "navigation"):
        expect(page.locator("main").get_by_text("Loading …")).to_be_visible()
        expect(page.get_by_role("status").get_by_text("Loading …")).to_be_attached()
        expect(page.locator(".page")).to_have_attribute("aria-busy", "true")
        expect(page.get_by_role(shows, name="Devices").last).to_be_visible()
        assert_open_to_everybody(page, "loading")
        page.evaluate("document.querySelector('[role=status].unseen').textContent = ''")
        held.pop().continue_()
    expect(page.get_by_label("MAC")).to_be_visible()
    expect(page.locator("main").get_by_text("Loading …")).to_have_count(0)
    expect(page.locator("[aria-busy]")).to_have_count(0)
    assert page.evaluate("shifts") == []


def test_settings_are_kept(visitor: Visitor) -> None:
    """What is wrong is said at its field; a password is only said to be there."""
    page = visitor.open()
    visitor.sign_in(page, "admin")
    go(page, "example.com", "settings")
    expect(page.get_by_label("Granted domains")).to_have_count(0)
    page.get_by_label("Devices URL").fill("ftp://nowhere")
    page.get_by_role("button", name="Save").click()
    expect(page.locator('[data-field="devices_url"] .fault')).to_be_visible()
    page.get_by_label("Devices URL").fill("")
    page.get_by_label("Phone apps").fill("phone\nsoftphone")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("example.com is saved.").first).to_be_visible()
    page.get_by_label("New password").fill("dialtone")
    page.get_by_role("button", name="Set the password").click()
    expect(page.get_by_text("The password is set.").first).to_be_visible()
    expect(page.get_by_label("New password")).to_have_value("")
    go(page, "example.com", "audit")
    row = page.get_by_role("row", name="phone_apps")
    expect(row.first).to_contain_text("admin")
    go(page, "example.com", "settings")
    expect(page.get_by_label("Phone apps")).to_have_value("phone\nsoftphone")
    visitor.expect_complaints("status of 400")


def test_the_audit_trail_is_told_in_german(german: Visitor, served: Served) -> None:
    """What was done and the service's own words in it; names, addresses and numbers as they are."""
    add_phone(served, "user9", 0x17)
    admin, own = served.token("admin"), "/api/domains/example.com"
    device = f"{own}/devices/{HW_ID.format(0x17)}"
    served.ask("PATCH", device, token=admin, body={"name": "renamed"})
    served.ask("PATCH", device, token=admin, body={"category": "Reception"})
    served.ask("POST", f"{device}/replace", token=admin, body={"hw_id": HW_ID.format(0x18)})
    served.ask("PATCH", own, token=admin, body={"may_add_phones": True, "phone_apps": ["phone"]})
    served.ask("POST", "/api/users", token=admin, body={"users": [{"sip": "renamed"}]})
    rollout = {"name": "x", "category": "Office", "users": ["renamed"]}
    made = json.loads(served.ask("POST", "/api/rollouts", token=admin, body=rollout)[2])
    path = f"/api/rollouts/{made['rollout_id']}/codes.csv?changed_since=2026-01-01T00:00:00Z"
    served.ask("GET", path, token=admin)
    page = german.open()
    german.sign_in(page, "admin")
    go(page, "example.com", "audit")
    page.get_by_role("table").wait_for()
    heads = page.locator("tbody th").all_inner_texts()
    told = {tuple(one.split("\n")) for one in heads}
    wanted = {
        ("Gerät geändert", "umbenannt"),
        ("Gerät geändert", "verschoben nach Reception"),
        ("Gerät ersetzt", f"durch {HW_ID.format(0x18)}"),
        ("Domäne geändert", "Benutzer dürfen Telefone hinzufügen, Telefon-Apps"),
        ("Codes ausgegeben", "renamed"),
        ("Codes exportiert", "Einträge: 1, geändert seit 2026-01-01T00:00:00+00:00"),
    }
    assert wanted - told == set()
    expect(page.get_by_role("cell", name="Benutzer: 1")).to_be_visible()
    assert not [one for one in heads if re.match(r"code |codes |device |token ", one)]
    assert_open_to_everybody(page, "audit")


def test_a_devices_admin_sees_no_other_part_nor_domain(visitor: Visitor) -> None:
    """Not by a link, and not by an address."""
    page = visitor.open("#/devices/platform.example/jobs")
    visitor.sign_in(page, "admin")
    expect(page.get_by_role("alert")).to_have_text(
        "You do not administer the domain platform.example."
    )
    parts = page.get_by_role("navigation", name="Devices")
    expect(parts.get_by_role("link", name="Platform")).to_have_count(0)
    page.evaluate("location.hash = '#/devices/example.com/platform'")
    expect(page.get_by_role("alert")).to_contain_text("This page is not for you")
    page.evaluate("location.hash = '#/devices/example.com/nothing'")
    expect(page.get_by_role("alert")).to_contain_text("There is no such part.")
    page.evaluate("location.hash = '#/devices/platform.example/jobs'")
    page.get_by_role("link", name="Back to example.com").click()
    page.get_by_label("MAC").wait_for()


@pytest.mark.parametrize("part", ["devices", "categories", "pbx"])
def test_from_a_domain_that_is_not_there_leads_a_way_back(visitor: Visitor, part: str) -> None:
    """Nothing of it shows, nor of a form that would change it."""
    page = visitor.open(f"#/devices/nowhere.example/{part}")
    visitor.sign_in(page, "platform")
    expect(page.get_by_role("alert")).to_have_text("There is no such domain.")
    expect(page.locator("section form")).to_have_count(0)
    page.get_by_role("link", name="Back to example.com").click()
    expect(page.get_by_label("MAC")).to_be_visible()
    visitor.expect_complaints("status of 404")


def test_a_user_is_told_no(visitor: Visitor) -> None:
    """There is no link to it either."""
    page = visitor.open("#/devices")
    visitor.sign_in(page, "user6")
    expect(page.get_by_role("alert")).to_contain_text("This page is not for you")
    expect(page.get_by_role("banner").get_by_role("link", name="Devices")).to_have_count(0)


def test_what_was_typed_stays_when_the_sign_in_ends(visitor: Visitor) -> None:
    """The service says 401, the page says so, and the form is as it was."""
    page = visitor.open()
    visitor.sign_in(page, "admin")
    go(page, "example.com", "settings")

    def refuse(route: Route) -> None:
        if route.request.method == "PATCH":
            body = json.dumps({"type": "urn:dialtone:problem:not-signed-in", "title": "x"})
            route.fulfill(status=401, content_type="application/problem+json", body=body)
        else:
            route.continue_()

    page.route("**/domains/example.com", refuse)
    page.get_by_label("Phone apps").fill("typed")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("You are not signed in any more.")).to_be_visible()
    expect(page.get_by_label("Phone apps")).to_have_value("typed")
    visitor.expect_complaints("status of 401")


@pytest.mark.parametrize("part", [*PARTS, "platform", f"devices/{HW_ID.format(0x15)}"])
def test_every_part_is_open_to_everybody(visitor: Visitor, served: Served, part: str) -> None:
    """Light and dark, and on a narrow screen."""
    if "/" in part:
        add_phone(served, "user5", 0x15)
    page = visitor.open()
    visitor.sign_in(page, "platform")
    go(page, "example.com", *part.split("/"))
    if part == "automatic":
        page.get_by_role("button", name="Set the token").click()
        confirm(page, "Set the token")
        page.get_by_role("region", name="Lines for").wait_for()
    assert_open_to_everybody(page, part)
