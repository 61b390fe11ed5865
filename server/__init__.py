"""What faces the outside: the web application, the command line, and the servers that `trellis up` starts."""
