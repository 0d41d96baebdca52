"""A headless Chromium or Chrome, where the machine has one."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

_BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
_DRIVER = shutil.which("chromedriver")
FOUND = _BROWSER is not None and _DRIVER is not None
_SECONDS = 15


class Browser:
    """A window of a browser."""

    def __init__(self, driver: webdriver.Chrome):
        self.driver = driver

    def open(self, address: str, width: int = 1280, height: int = 800, dark: bool = False) -> None:
        """Loads a page in a window of a size in CSS pixels; one that is narrow is a phone's."""
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self.driver.get(address)

    def all(self, selector: str) -> list[WebElement]:
        """The elements of a CSS selector, perhaps none."""
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def wait_for(self, selector: str) -> WebElement:
        """The first element of a selector, when it is there."""
        return WebDriverWait(self.driver, _SECONDS).until(lambda _: self.all(selector))[0]

    def value(self, expression: str) -> object:
        """The value of a JavaScript expression."""
        return self.driver.execute_script(f"return {expression}")

    def complaints(self) -> list[str]:
        """What the console has shown since the last call, without advice."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] in ("WARNING", "SEVERE")]


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser that asks nothing of the network but what its pages do."""
    assert _BROWSER is not None
    options = webdriver.ChromeOptions()
    options.binary_location = _BROWSER
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    options.set_capability("unhandledPromptBehavior", "ignore")  # an alert of a page fails the test
    # Tests may run as root and in containers, where there is no sandbox and little shared memory.
    for flag in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "disable-gpu", "no-proxy-server"):
        options.add_argument(f"--{flag}")
    driver = webdriver.Chrome(options, webdriver.ChromeService(_DRIVER))
    try:
        yield Browser(driver)
    finally:
        driver.quit()
