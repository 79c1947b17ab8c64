"""PySide6: `ask(call, print, QSslSocket(parent))`. Leaves early if `on_event` returns true or the socket is deleted."""

import sys
from collections.abc import Callable
from time import monotonic

from PySide6 import QtCore, QtNetwork

from opchat_proto import Call, Channel, Connect, Done, Event, Live, Send, StartTLS, Wait


def ask(call: Call, on_event: Callable[[Event], object], wire: QtNetwork.QSslSocket) -> None:
    def proceed(report: Callable[..., None], *values: object) -> None:
        report(*values)
        while event := call.next_event():
            if (on_event(event) or not isinstance(event, Live)) and not wire.blockSignals(True):  # it reports no more
                return wire.deleteLater()
        step, until = call.next_step(monotonic())  # at or after the deadline, a timeout
        clock.start(10 if isinstance(step, Wait | Done) else 1 + int(1000 * min(until - monotonic(), 1e6)))
        if isinstance(step, Connect | Wait | Done):
            wire.abort()
        match step:
            case Connect(host, port):  # later: the socket is in the middle of a signal
                QtCore.QTimer.singleShot(0, wire, lambda: wire.connectToHost(host, port))
            case StartTLS(name):
                wire.setPeerVerifyName(name)
                wire.startClientEncryption()
            case Send(data):
                wire.write(data)  # a failure is reported as an error of the socket
                proceed(call.step_done)

    [opened.connect(lambda: proceed(call.step_done)) for opened in (wire.connected, wire.encrypted)]
    wire.readyRead.connect(lambda: proceed(call.receive_data, wire.readAll().data()))
    ends = {QtNetwork.QSslSocket.SocketError.RemoteHostClosedError: [call.receive_eof]}
    wire.errorOccurred.connect(lambda error: proceed(*ends.get(error, [call.step_failed, wire.errorString()])))
    wire.destroyed.connect(lambda: call.close())
    clock = QtCore.QTimer(wire, singleShot=True, timerType=QtCore.Qt.TimerType.PreciseTimer)
    clock.timeout.connect(lambda: proceed(call.receive_data, b""))
    clock.start(0)


if __name__ == "__main__":
    ask(Channel(sys.argv[1]).call("Hello!"), print, wire := QtNetwork.QSslSocket(app := QtCore.QCoreApplication()))
    wire.destroyed.connect(app.quit)
    app.exec()
