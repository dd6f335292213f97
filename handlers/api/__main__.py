"""`make api`: the HTTP API and its page on this machine, for this machine alone."""

import argparse
import contextlib
import sys

from core import settings
from core.errors import AudioEmotionError
from core.paths import default_model
from core.settings import ModelSettings
from handlers.api.app import create_app
from handlers.api.server import HOST, NAMES, server_for
from handlers.api.service import Service


def main() -> int:
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m handlers.api", description=(__doc__ or "").strip())
    parser.add_argument("--port", type=int, default=8010)
    options = parser.parse_args()
    try:
        model = settings.read(ModelSettings)
        service = Service.load(model.model_dir if "model_dir" in model.model_fields_set else default_model())
    except AudioEmotionError as error:
        _say(str(error))
        return 1
    if service.recogniser.model.demo:
        _say("This is the demo model, which knows nothing of real people. `make model` fetches the real one.")
    _say(f"The page is at http://{HOST}:{options.port}/, the description at /docs. Ctrl-C ends it.")
    with contextlib.suppress(KeyboardInterrupt):  # which the server raises anew once it has ended in order
        server_for(create_app(service, hosts=NAMES), options.port).run()
    return 0


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")


if __name__ == "__main__":
    sys.exit(main())
