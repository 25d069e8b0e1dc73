"""`python -m worker`: run the agent until SIGTERM or SIGINT."""

import logging
import os
import signal
import sys
import threading

from server.known_variables import misspelt
from server.log_format import configure
from worker.agent import Agent
from worker.client import ServerRefused, WorkerClient
from worker.gpus.share import GpusGone
from worker.own_name import AlreadyRunning, FolderUnusable
from worker.settings import InvalidSettings, read_settings
from worker.workplace import warm_up

LOOK_S = 0.1  # while torch is imported

logger = logging.getLogger("worker")


def main() -> int:
    """Work until told to stop; returns the exit code."""
    unread = misspelt(os.environ).values()
    try:
        settings = read_settings()
    except InvalidSettings as error:
        sys.stderr.writelines(f"warning: {sentence}\n" for sentence in unread)
        sys.stderr.write(f"error: {error}\n")
        return 2
    configure(settings.log_format)
    for sentence in unread:
        logger.warning("%s", sentence)
    try:
        client = WorkerClient(settings.server, settings.token, authorities=settings.authorities)
    except OSError as error:
        sys.stderr.write(f"error: cannot read certificates of --ca: {error}\n")
        return 2
    with client:
        agent = Agent(settings, client)
        # A batch system's warning before its time is over is one of these.
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
            signal.signal(number, lambda *_: threading.Thread(target=agent.stop).start())
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a closed terminal, or logrotate's: go on
        try:
            _warm_up_for(agent)
            agent.run()
        except (AlreadyRunning, FolderUnusable, GpusGone, ServerRefused) as error:
            sys.stderr.write(f"error: {error}\n")
            return 1
    return 0


def _warm_up_for(agent: Agent) -> None:
    """Before it takes jobs, whose leases would run out meanwhile; but it need not outlast it."""
    warming = threading.Thread(target=warm_up, daemon=True)
    warming.start()
    while warming.is_alive() and not agent.is_stopping:
        warming.join(LOOK_S)


if __name__ == "__main__":
    sys.exit(main())
