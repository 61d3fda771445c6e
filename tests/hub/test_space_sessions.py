# SPDX-License-Identifier: Apache-2.0
from types import SimpleNamespace

from eigenhub.hub.space_sessions import Session


def test_work_ends_where_it_is_told_to():
    me, other = (SimpleNamespace(session_hash=name) for name in ("me", "other"))
    with Session(me) as run, Session(me, "look") as look, Session(other) as theirs:
        Session.ender("look")(me)
        assert (run.goes_on, look.goes_on, theirs.goes_on) == (True, False, True)
        Session.end(me)
        assert (run.goes_on, theirs.goes_on) == (False, True)
    assert not theirs.goes_on and not Session._going
