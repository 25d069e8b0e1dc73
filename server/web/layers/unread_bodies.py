"""A body that is answered before all of it was read: no more is read, the connection ends."""

from server.web.asgi import Message, Receive, Send


def closing_if_unread(receive: Receive, send: Send) -> tuple[Receive, Send]:
    """`receive` and `send` of a request whose route reads its body, or leaves it."""
    is_read = False

    async def receive_and_see() -> Message:
        nonlocal is_read
        message = await receive()
        is_read = not message.get("more_body", False)
        return message

    async def send_and_close(message: Message) -> None:
        if message["type"] == "http.response.start" and not is_read:
            message["headers"] = [*message.get("headers", ()), (b"connection", b"close")]
        await send(message)

    return receive_and_see, send_and_close
