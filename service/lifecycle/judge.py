"""Whether a canary is withdrawn: its figures against those of the default version."""

from service.lifecycle.figures import AnswerFigures
from service.lifecycle.statistics import Z_DECISION, least_excess, wilson
from service.policy.policy import Withdraw

_TAIL = 0.95


def judge(limits: Withdraw, default: AnswerFigures, canary: AnswerFigures) -> str | None:
    """Why the canary has to be withdrawn; None as long as it may stay.

    A limit has to be exceeded by the figures themselves, and the canary has to be worse than the default beyond what
    chance explains: intervals of three standard deviations, since this is asked again and again. Shares are compared
    with none if the default version has answered nothing; latencies are not compared then.

    Args:
        limits: of the policy.
        default: figures of the default version.
        canary: those of the canary.
    """
    if canary.requests < limits.after:
        return None
    after = f"after {canary.requests} requests"
    errors = canary.errors, canary.requests, default.errors, default.requests
    if exceeds(limits.errors, *errors):
        return f"errors {_against(*errors)} {after}"
    unfamiliar = canary.unfamiliar, canary.rated, default.unfamiliar, default.rated
    if exceeds(limits.unfamiliar, *unfamiliar):
        return f"unfamiliar inputs {_against(*unfamiliar)} {after}"
    slow, usual = canary.latency, default.latency
    if limits.latency is not None and slow.count and usual.count:
        # The interval of a quantile lies between two other quantiles.
        low, _ = wilson(round(_TAIL * slow.count), slow.count, Z_DECISION)
        _, high = wilson(round(_TAIL * usual.count), usual.count, Z_DECISION)
        ours, theirs = slow.quantile(_TAIL), usual.quantile(_TAIL)
        if ours > limits.latency * theirs and slow.quantile(low) > limits.latency * usual.quantile(high):
            return f"p95 {_ms(ours)} against {_ms(theirs)} {after}"
    return None


def exceeds(limit: float | None, count: int, total: int, base_count: int, base_total: int) -> bool:
    """Whether a share is above a base share by more than a limit, and not by chance."""
    if limit is None or not total:
        return False
    if not base_total:
        return count / total > limit and wilson(count, total, Z_DECISION)[0] > 0
    excess = count / total - base_count / base_total
    return excess > limit and least_excess(count, total, base_count, base_total) > 0


def _against(count: int, total: int, base_count: int, base_total: int) -> str:
    return f"{count / total:.2f} against {f'{base_count / base_total:.2f}' if base_total else 'none'}"


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.1f} ms"
