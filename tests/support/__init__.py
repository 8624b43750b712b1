"""What the tests stand on: private servers, a proxy, an oracle, messages, the installed dvctl as a process."""
