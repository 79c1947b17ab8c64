"""Decide when to ask which question: pace, pauses, conversations, retries. No I/O; time is an argument."""

import math
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import final

from opchat_proto import Bot, Broken, Conversation, End, Endpoint, Message, Reason, Scalar, Submit

from ._questions import Asked, BatchQuestion, QuestionId, Result, check_turn

__all__ = ["Answer", "Plan", "Turn"]

_WINDOW = 1000  # waiting questions, so that a pausing site does not hold up the others
_MOST_SITES = 1000  # sites remembered without waiting questions
_SHORTEST_BACK_OFF = 0.5  # seconds, like the transports' own retries
_LONGEST_BACK_OFF = 8.0
_CAUGHT_UP = 1.0  # seconds
_NO_ANSWER = (Reason.LOST, Reason.TIMEOUT, Reason.PROXY)


@final
@dataclass(frozen=True, slots=True)
class Answer:
    """The outcome of asking once."""

    last: End | Broken
    text: str = ""
    """The pieces of the answer, joined."""
    first: float | None = None
    """Seconds to the first piece."""
    seconds: float = 0.0
    has_begun: bool = False
    """Whether any event came before the terminal one."""

    @property
    def asked(self) -> Asked:
        """Whether the question reached the server: "maybe" if it was sent and nothing came back."""
        if isinstance(self.last, End):
            return True
        if not self.last.asked:
            return False
        return "maybe" if self.last.reason in _NO_ANSWER and not self.has_begun else True


@dataclass(slots=True)
class _Site:
    """One origin."""

    next_at: float = -math.inf  # when the rate allows the next question
    paused_until: float = -math.inf


@dataclass(slots=True, eq=False)
class _Talk:
    """One conversation."""

    first: BatchQuestion
    conversation: Conversation
    is_busy: bool = False
    is_broken: bool = False
    waiting: int = 0


@final
@dataclass(slots=True, eq=False)
class Turn:
    """A question, and how to ask it."""

    question: BatchQuestion
    endpoint: Endpoint
    submit: Submit
    retries: int = 0
    _talk: _Talk | None = None
    _not_before: float = -math.inf


@final
class Plan:
    """Decides what to ask next, and makes the results.

    `rate` is the most questions a minute to one site. After a Retry-After a site is
    asked nothing before that time. `retries` is how often to repeat a question that
    did not reach the server, or was answered with 429 or 503 and a Retry-After. It
    stops after `stop_after` broken replies in a row, and after `most` questions.
    `settled` has the results of an earlier run: those questions are not asked, and
    their conversations continue from them. `conversations` is how many conversations
    are remembered; a forgotten one begins anew.

    Raises `ValueError` for invalid numbers.
    """

    def __init__(
        self,
        *,
        url: Endpoint | str | None = None,
        bot: Bot | Scalar | None = "default",
        rate: float | None = None,
        retries: int = 0,
        stop_after: int | None = None,
        most: int | None = None,
        settled: Mapping[QuestionId, Result] | None = None,
        conversations: int = 1000,
        chat_id: Callable[[], str] | None = None,
        random: Callable[[], float] = lambda: 1.0,
    ) -> None:
        for name, value, least in (("stop_after", stop_after, 1), ("most", most, 0), ("retries", retries, 0)):
            if value is not None and value < least:
                raise ValueError(f"{name}: expected {least} or more, got {value}")
        if rate is not None and not 0 < rate < math.inf:
            raise ValueError(f"rate: expected more than 0 questions a minute, got {rate}")
        self.results: deque[Result] = deque()
        """Results that were not taken yet."""
        self.under_way = 0
        if url is None and isinstance(bot, Bot):
            url = bot.endpoint
        self.endpoint = Endpoint.parse(url) if isinstance(url, str) else url
        """The site of questions without a `url`."""
        self._bot = bot
        self._interval = 0.0 if rate is None else 60 / rate
        self._most_retries = retries
        self._stop_after = stop_after
        self._most = most
        self._settled = settled or {}
        self._most_talks = conversations
        self._new_chat_id = chat_id
        self._random = random
        self._waiting: list[Turn] = []
        self._talks: OrderedDict[QuestionId, _Talk] = OrderedDict()
        self._sites: dict[str, _Site] = {}
        self._broken_in_a_row = 0
        self._begun = 0
        self._has_ended = most == 0
        self.has_stopped = False
        """Whether no more questions will be asked."""

    @property
    def has_room(self) -> bool:
        """Whether another question may be added."""
        return not self._has_ended and not self.has_stopped and len(self._waiting) < _WINDOW

    def add(self, question: BatchQuestion) -> None:
        """Add a question. Raises `ValueError` if it has no site or does not fit its conversation.

        Does nothing if no more questions will be asked.
        """
        if self.has_stopped or self._has_ended:
            return
        endpoint = self.endpoint if question.url is None else Endpoint.parse(question.url)
        if endpoint is None:
            raise ValueError(f"question {question.id!r}: expected a url, of its own or for all")
        turn = Turn(question, endpoint, self._submit(question))
        if question.conversation is not None:
            turn._talk = self._find_talk(question, turn.submit)
            turn._talk.waiting += 1
        elif question.id in self._settled:
            return
        self._waiting.append(turn)

    def end_input(self) -> None:
        """No more questions will be added."""
        self._has_ended = True

    def stop(self) -> None:
        """Ask no more; open questions continue."""
        self.has_stopped = True
        self._waiting.clear()

    def next_turn(self, now: float) -> Turn | float | None:
        """Return the question to ask now, or the time to ask again; infinity means after the next change.

        None means that everything is over.
        """
        soonest = math.inf
        blocked: set[_Talk] = set()
        for turn in list(self._waiting):
            talk = turn._talk
            if talk is not None:
                if talk.is_busy or talk in blocked:
                    continue
                if self._is_done(turn, talk):
                    self._waiting.remove(turn)
                    talk.waiting -= 1
                    continue
            site = self._site(turn, now)
            at = max(site.next_at, site.paused_until, turn._not_before)
            if at <= now:
                return self._begin(turn, site, now)
            soonest = min(soonest, at)
            if talk is not None:
                blocked.add(talk)
        is_over = self.has_stopped or (self._has_ended and not self._waiting)
        return None if is_over and not self.under_way else soonest

    def finish(self, turn: Turn, answer: Answer, now: float) -> None:
        """Take the outcome of a turn."""
        self.under_way -= 1
        question, talk, last = turn.question, turn._talk, answer.last
        if talk is not None:
            talk.is_busy = False
        if isinstance(last, Broken):
            if last.retry_after is not None:
                site = self._site(turn, now)
                site.paused_until = max(site.paused_until, now + last.retry_after)
            pause = self._pause_before_retry(last, turn.retries)
            if pause is not None:
                turn.retries += 1
                turn._not_before = now + pause
                self._waiting.insert(0, turn)
                if talk is not None:
                    talk.waiting += 1
                return
            self._broken_in_a_row += 1
            if talk is not None:
                talk.is_broken = True
            if self._broken_in_a_row == self._stop_after:
                self.stop()
        else:
            self._broken_in_a_row = 0
            if talk is not None:
                talk.conversation.record(turn.submit, last, answer.text)
        reply = last.reply if isinstance(last, End) and last.reply is not None else answer.text
        self.results.append(
            Result.of(
                question,
                last,
                reply=reply,
                first=answer.first,
                seconds=answer.seconds,
                retries=turn.retries,
                asked=answer.asked,
            )
        )

    # ---------------------------------------------------------------- results

    def _submit(self, question: BatchQuestion) -> Submit:
        if not isinstance(self._bot, Bot):
            return question.submit(self._bot)
        if question.bot is not None or question.url is not None:  # which may be another site
            return question.submit("default")
        of_bot = self._bot.submit(question.text)
        return replace(of_bot, messages=question.history, stream=True)

    def _begin(self, turn: Turn, site: _Site, now: float) -> Turn:
        self._waiting.remove(turn)
        self.under_way += 1
        # A small delay of the machine is caught up, so that the rate holds.
        is_late = site.next_at >= now - max(self._interval, _CAUGHT_UP)
        site.next_at = (site.next_at if is_late else now) + self._interval
        talk = turn._talk
        if talk is not None:
            talk.waiting -= 1
            talk.is_busy = True
            turn.submit = talk.conversation.ask(turn.question.text)
        if not turn.retries:
            self._begun += 1
            if self._begun == self._most:
                self._has_ended = True
                self._waiting.clear()
        return turn

    def _is_done(self, turn: Turn, talk: _Talk) -> bool:
        """Whether a question of a conversation must not be asked: it has its result, or cannot have one."""
        question = turn.question
        settled = self._settled.get(question.id)
        if settled is None:
            if talk.is_broken:
                self.results.append(Result.of(question, None))
            return talk.is_broken
        if isinstance(settled.last, End):
            said = Message("user", question.text), Message("assistant", settled.reply)
            talk.conversation.messages += said
        else:
            talk.is_broken = True
        return True

    def _pause_before_retry(self, broken: Broken, made: int) -> float | None:
        if made >= self._most_retries or self.has_stopped:
            return None
        if broken.status in (429, 503) and broken.retry_after is not None:
            return broken.retry_after
        if broken.asked or broken.reason not in _NO_ANSWER:
            return None
        bound = min(2.0 ** min(made, 10), _LONGEST_BACK_OFF)
        return _SHORTEST_BACK_OFF + self._random() * (bound - _SHORTEST_BACK_OFF)

    def _site(self, turn: Turn, now: float) -> _Site:
        origin = turn.endpoint.origin
        if origin not in self._sites:
            if len(self._sites) >= _MOST_SITES:
                later = {o: site for o, site in self._sites.items() if max(site.next_at, site.paused_until) > now}
                self._sites = later
            self._sites[origin] = _Site()
        return self._sites[origin]

    def _find_talk(self, question: BatchQuestion, submit: Submit) -> _Talk:
        name = question.conversation
        assert name is not None
        talk = self._talks.get(name)
        if talk is None:
            conversation = Conversation(
                question.history,
                None if self._new_chat_id is None else self._new_chat_id(),
                submit.bot_id,
                custom_id=submit.custom_id,
                context_id=submit.context_id,
            )
            talk = self._talks[name] = _Talk(question, conversation)
        check_turn(question, talk.first)
        self._talks.move_to_end(name)
        if len(self._talks) > self._most_talks:
            resting = (name for name, talk in self._talks.items() if not talk.is_busy and not talk.waiting)
            oldest = next(resting, name)
            if oldest != name:
                del self._talks[oldest]
        return talk
