"""A pytest plugin: ``--at-least N`` fails a run of which fewer than N tests passed, for want of a library."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--at-least", type=int, default=0)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or hasattr(session.config, "workerinput"):
        return  # a worker of pytest-xdist, which sees only its share
    passed, least = len(reporter.stats.get("passed", [])), session.config.getoption("--at-least")
    if passed < least:
        print(f"\n{passed} tests passed, {least} were expected")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
