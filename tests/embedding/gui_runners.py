"""Call the recipes for GUI toolkits as a program would, in the main thread."""

import os

from PySide6.QtCore import QCoreApplication, QEventLoop
from PySide6.QtNetwork import QSslCertificate, QSslConfiguration, QSslSocket

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
    wire = QSslSocket(application)
    wire.setSslConfiguration(tls)
    wire.destroyed.connect(loop.quit)
    qt_socket.ask(question.call(), question.hear, wire)
    loop.exec()


def of_pygame(question: Question) -> None:
    pygame.display.init()
    pygame.display.set_mode((64, 64))
    for _ in pygame_frames.ask(question.call(), question.hear, question.tls):
        pygame.event.pump()
        pygame.time.wait(5)
    pygame.display.quit()


GUI_RUNNERS: dict[str, Recipe] = {"qt_socket": of_qt, "pygame_frames": of_pygame}
