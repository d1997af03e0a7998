"""A request's way through the server, by whichever port it came: who may enter, who waits, who works, what is said."""
