"""Numbers and names as people read them in reports."""

import math

NOT_MEASURED = "not measured"


def known(value):
    """Whether a value was measured and is finite."""
    return value is not None and math.isfinite(value)


def formatter(pattern, scale=1):
    """Function of a value to its text, or to `NOT_MEASURED`; scale is applied first."""

    def form(value):
        return pattern.format(value * scale) if known(value) else NOT_MEASURED

    return form


percent = formatter("{:.1f} %", 100)
decimal = formatter("{:.3f}")
integer = formatter("{:,.0f}")
megabytes = formatter("{:.2f} MB", 1e-6)
milliseconds = formatter("{:.2f} ms")
scientific = formatter("{:.1e}")


def quantity(value, unit):
    """A gate's limit or value: unit "fraction", "bytes" or "ms"."""
    # A digit more than elsewhere: 94.96 % fails a limit of 95 % and must not read "95.0 %".
    forms = {"fraction": formatter("{:.2f} %", 100), "bytes": megabytes, "ms": milliseconds}
    return forms.get(unit, formatter("{:g}"))(value)


def points(fraction):
    """A difference of fractions in percentage points, signed."""
    return f"{100 * fraction:+.1f}".replace("-", "−")


def share(fraction):
    """A probability, "83 %"; never 100 % below 1."""
    if 0.995 <= fraction < 1:
        return f"{min(100 * fraction, 99.9):.1f} %"
    return f"{100 * fraction:.0f} %"


def ends(interval):
    """The ends of a difference's interval in percentage points, "+0.1 to +2.3"."""
    low, high = interval
    return f"{points(low)} to {points(high)}"


def span(interval):
    """The same with its name, "interval +0.1 to +2.3"."""
    return f"interval {ends(interval)}"


def confidence(fraction):
    """The confidence of an interval, "95 %", which it is where None."""
    return f"{100 * (0.95 if fraction is None else fraction):g} %"


def p_value(value):
    """A p value with its relation, "= 0.042" or "< 0.001"."""
    return "< 0.001" if value < 0.001 else f"= {value:.3f}"


def count(number, noun):
    """Number and noun: "1 seed", "3 seeds"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def shortened(name, most=22):
    """A name of at most `most` characters, cut with an ellipsis."""
    return name if len(name) <= most else name[: most - 1] + "…"


def duration(seconds):
    """Seconds as "4.2 s", "3 min 5 s" or "1 h 2 min"."""
    if not known(seconds):
        return NOT_MEASURED
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
