"""The same as asyncio_echo, on uvloop: libuv under asyncio's interface."""

import asyncio_echo
import uvloop

asyncio_echo.main(uvloop.run, asyncio_echo.Echo)
