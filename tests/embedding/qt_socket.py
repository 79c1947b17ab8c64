"""PySide6: keep `Question(client, print, QSslConfiguration.defaultConfiguration(), 120_000)` while it goes on.
What is true of `on_event` leaves early, as does `leave()`. `ms` bound each wait."""

from collections.abc import Callable

from PySide6.QtCore import QTimer
from PySide6.QtNetwork import QAbstractSocket, QSslConfiguration, QSslSocket

from opchat_proto import Client, Connect, Done, Event, Reason, Send, StartTLS


class Question:
    def __init__(self, client: Client, on_event: Callable[[Event], object], tls: QSslConfiguration, ms: int) -> None:
        self.client, self.on_event, self.awaiting = client, on_event, client.awaiting
        self.socket, self.clock, self.pause = QSslSocket(), QTimer(), QTimer(singleShot=True)
        self.socket.setSslConfiguration(tls)
        self.socket.connected.connect(self.step_done)
        self.socket.encrypted.connect(self.step_done)
        self.socket.readyRead.connect(lambda: self.heard(client.receive_data(self.socket.readAll().data())))
        self.socket.errorOccurred.connect(self.failed)
        late = f"nothing for {ms} ms"
        self.clock.timeout.connect(lambda: self.heard(client.receive_failure(late, Reason.TIMEOUT)))
        self.pause.timeout.connect(self.proceed)
        self.clock.start(ms)
        self.proceed()

    def step_done(self) -> None:
        self.client.step_done()
        self.proceed()

    def proceed(self) -> None:
        match self.client.next_step():
            case Connect(host, port):
                self.socket.abort()
                self.socket.connectToHost(host, port)
            case StartTLS(name):
                self.socket.setPeerVerifyName(name)
                self.socket.startClientEncryption()
            case Send(data):
                self.socket.write(data)  # what goes wrong with it comes to `failed`
                self.client.step_done()
            case Done():
                self.leave()

    def heard(self, events: list[Event]) -> None:
        self.pause.start(1)  # not now: is the connection closed, before the next Send goes out?
        if events or self.client.awaiting is not self.awaiting:
            self.awaiting = self.client.awaiting
            self.clock.start()
        if any(map(self.on_event, events)):
            self.leave()

    def failed(self, error: QAbstractSocket.SocketError) -> None:
        closed = error is QAbstractSocket.SocketError.RemoteHostClosedError
        self.heard(self.client.receive_eof() if closed else self.client.receive_failure(self.socket.errorString()))

    def leave(self) -> None:
        self.clock.stop()
        self.pause.stop()
        self.socket.abort()
