"""AppWebsocket, the vendor's protocol over websockets: login, the Devices service, what is told."""
