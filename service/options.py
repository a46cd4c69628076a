"""The command line of the server; parsing it imports nothing heavy."""

import argparse

from quartet.extras import needs


class _ServeParser(argparse.ArgumentParser):
    """Adds the settings to its help, which is the only time they are imported."""

    def format_help(self) -> str:
        with needs("server"):
            from service.settings import PREFIX, Settings

        width = max(map(len, Settings.model_fields)) + len(PREFIX)
        lines = [
            f"  {PREFIX + name.upper():<{width}}  {field.description} (default: {field.default})"
            for name, field in Settings.model_fields.items()
        ]
        return super().format_help() + "\nsettings, all of them environment variables:\n" + "\n".join(lines) + "\n"


def make_parser(prog: str) -> argparse.ArgumentParser:
    """The parser of the server's command line; options that are not given are None.

    Args:
        prog: the program's name in help and usage messages.
    """
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Serves the models in a folder over HTTP.",
        epilog=f"`{prog} serve --help` lists the settings, `quartet --help` the commands that need no server.",
    )
    parser.set_defaults(models=None, port=None, workers=None)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", parser_class=_ServeParser)
    serve = commands.add_parser(
        "serve",
        help="run the server until SIGTERM or SIGINT (the default)",
        description="Runs the server until SIGTERM or SIGINT.",
    )
    serve.add_argument("--models", metavar="FOLDER", help="the models: QUARTET_MODELS=FOLDER (default: models)")
    serve.add_argument("--port", metavar="N", help="port to listen on: QUARTET_PORT=N (default: 8000)")
    serve.add_argument(
        "--workers",
        metavar="N",
        help="processes that share the port, the cores and the memory: QUARTET_WORKERS=N (default: 1)",
    )
    return parser
