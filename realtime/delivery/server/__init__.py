"""uvicorn as this project needs it: the only room that knows the inside of uvicorn and httptools."""
