"""How the recipes for toolkits are called: each as its program would, in the main thread."""

import os

from PySide6.QtCore import QCoreApplication, QEventLoop, QTimer
from PySide6.QtNetwork import QSslCertificate, QSslConfiguration

from opchat_proto import Event, Live

os.environ |= {"SDL_VIDEODRIVER": "dummy", "SDL_AUDIODRIVER": "dummy", "PYGAME_HIDE_SUPPORT_PROMPT": "1"}

import pygame

from . import pygame_frames, qt_socket
from .suite import Question, Recipe


def of_qt(question: Question) -> None:
    application = QCoreApplication.instance() or QCoreApplication([])
    loop = QEventLoop(application)
    tls = QSslConfiguration.defaultConfiguration()
    if question.cafile is not None:
        tls.setCaCertificates(QSslCertificate.fromPath(question.cafile))

    def hear(event: Event) -> object:
        leaves = question.hear(event)
        if leaves or not isinstance(event, Live):
            QTimer.singleShot(0, loop.quit)
        return leaves

    asked = qt_socket.Question(question.client(), hear, tls, int(question.seconds * 1000))
    loop.exec()
    asked.leave()


def of_pygame(question: Question) -> None:
    pygame.display.init()
    pygame.display.set_mode((64, 64))
    pygame_frames.play(pygame_frames.ask(question.client(), question.hear, question.tls, question.seconds))
    pygame.display.quit()


GUI_RUNNERS: dict[str, Recipe] = {"qt_socket": of_qt, "pygame_frames": of_pygame}
