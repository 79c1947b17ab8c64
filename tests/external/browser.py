"""The chat page in a browser, used like a person would."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from selenium.webdriver import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from opchat_proto import Event, Submit
from opchat_transports.blocking_server import BlockingServer, serve

PATIENCE = 60.0  # seconds
SECRET = b"a secret of this site"


class Window:
    """The chat page of a server, used with the keyboard alone."""

    def __init__(self, driver: Any, url: str) -> None:
        self.driver = driver
        old = driver.current_window_handle
        driver.switch_to.new_window("tab")  # which has its own session storage
        new = driver.current_window_handle
        driver.switch_to.window(old)
        driver.close()
        driver.switch_to.window(new)
        self.open(url)

    def open(self, url: str) -> None:
        self.driver.get(url)
        self.wait(lambda: self.focused() == "opchat-question")

    def wait(self, true: Callable[[], Any]) -> None:
        WebDriverWait(self.driver, PATIENCE, poll_frequency=0.05).until(lambda _: true())

    def focused(self) -> str:
        return str(self.driver.switch_to.active_element.get_attribute("id"))

    def keys(self, *keys: str) -> None:
        ActionChains(self.driver).send_keys(*keys).perform()

    def shift(self, key: str) -> None:
        ActionChains(self.driver).key_down(Keys.SHIFT).send_keys(key).key_up(Keys.SHIFT).perform()

    def ask(self, question: str) -> None:
        self.keys(question, Keys.ENTER)

    def texts(self) -> list[str]:
        """The text of each message."""
        texts = self.driver.execute_script(
            "return [...document.querySelectorAll('.opchat-text')].map((text) => text.textContent)"
        )
        assert isinstance(texts, list)
        return texts

    def faults(self) -> list[str]:
        faults = self.driver.find_elements(By.CSS_SELECTOR, ".opchat-fault[role=alert]")
        return [fault.text for fault in faults]

    def notes(self) -> list[str]:
        return [note.text for note in self.driver.find_elements(By.CSS_SELECTOR, ".opchat-note")]

    def status(self) -> str:
        return str(self.driver.find_element(By.ID, "opchat-status").text)

    def draft(self) -> str:
        return str(self.driver.find_element(By.ID, "opchat-question").get_property("value"))

    def script(self, source: str, *arguments: Any) -> Any:
        return self.driver.execute_script(source, *arguments)

    def idle(self) -> bool:
        return bool(self.driver.find_element(By.ID, "opchat-send").is_displayed())

    def answered(self, *texts: str) -> bool:
        return self.idle() and self.texts() == list(texts)

    def complaints(self) -> list[str]:
        """What the browser logged about the page itself, such as violations of its Content-Security-Policy."""
        return [
            entry["message"]
            for entry in self.driver.get_log("browser")
            if "favicon" not in entry["message"] and "Failed to load resource" not in entry["message"]
        ]


def echo(submit: Submit) -> Iterator[str | Event]:
    yield from submit.new_message


@contextmanager
def serving(bot: Any = echo, **options: Any) -> Iterator[BlockingServer]:
    with serve(bot, secret=SECRET, **options) as server:
        yield server
