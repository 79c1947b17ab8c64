"""PySide6: keep `Question(call, print, QSslConfiguration.defaultConfiguration())` while it goes on, or `leave()` it.
What is true of `on_event` leaves early. A call that waits for another one is asked again every 50 ms."""

import sys
from collections.abc import Callable
from time import monotonic

from PySide6.QtCore import QCoreApplication, QObject, Qt, QTimer, Signal
from PySide6.QtNetwork import QSslConfiguration, QSslSocket

from opchat_proto import Call, Channel, Connect, Done, Event, Live, Send, StartTLS, Wait


class Question(QObject):
    over = Signal()

    def __init__(self, call: Call, on_event: Callable[[Event], object], tls: QSslConfiguration) -> None:
        super().__init__()
        self.call, self.on_event, self.wire = call, on_event, QSslSocket()
        self.clock = QTimer(singleShot=True, timerType=Qt.TimerType.PreciseTimer, interval=0)
        self.clock.timeout.connect(self.proceed)
        self.wire.setSslConfiguration(tls)
        self.wire.connected.connect(lambda: self.report(call.step_done))
        self.wire.encrypted.connect(lambda: self.report(call.step_done))
        self.wire.readyRead.connect(lambda: self.report(call.receive_data, self.wire.readAll().data()))
        self.wire.errorOccurred.connect(self.failed)
        self.clock.start()

    def report(self, report: Callable[..., None], *values: object) -> None:
        report(*values)
        self.clock.start(0)  # not now, in the middle of what the socket does

    def failed(self, error: QSslSocket.SocketError) -> None:
        if error is QSslSocket.SocketError.RemoteHostClosedError:
            self.report(self.call.receive_eof)
        else:
            self.report(self.call.step_failed, self.wire.errorString())

    def proceed(self) -> None:
        while event := self.call.next_event():
            if self.on_event(event) or not isinstance(event, Live):
                self.leave()
                return
        step, until = self.call.next_step(monotonic())  # or what it means that the time is over
        self.clock.start(50 if isinstance(step, Wait) else 1 + int(1000 * min(until - monotonic(), 1e6)))
        if isinstance(step, Connect | Wait | Done):
            self.wire.abort()
        match step:
            case Connect(host, port):
                self.wire.connectToHost(host, port)
            case StartTLS(name):
                self.wire.setPeerVerifyName(name)
                self.wire.startClientEncryption()
            case Send(data):
                self.wire.write(data)  # what goes wrong with it comes to `failed`
                self.report(self.call.step_done)
            case Done():
                self.clock.start(0)

    def leave(self) -> None:
        self.call.close()
        self.clock.stop()
        self.wire.abort()
        self.over.emit()


if __name__ == "__main__":
    application = QCoreApplication()
    asked = Question(Channel(sys.argv[1]).call("Hello!"), print, QSslConfiguration.defaultConfiguration())
    asked.over.connect(application.quit)
    application.exec()
