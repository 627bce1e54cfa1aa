"""The parts of the demo besides the dashboard: an example bot that may be stopped, and a receiver of its alerts.

    demonstration.py  connects the parts, and sets the demo's policy of escalation
    bot.py            the example bot
    receiver.py       what arrived at the demo's webhook, and whether its signature is valid
    routes.py         the HTTP of both, and of the pages in `static/demo/`

No node imports this package: the command `guardwire demo` gives its parts to a server in development mode.
"""
