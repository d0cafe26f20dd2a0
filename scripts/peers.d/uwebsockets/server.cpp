// A channel server on uWebSockets: a connection to /c is a member of channel c, one to /publish/c only publishes to it,
// and one to /lobby is in none. What a member sends goes to the other members as it is.
#include "App.h"

#include <cstdlib>
#include <iostream>
#include <string>

struct Connection {
    std::string channel;
    bool isMember;
};

int main(int, char **argv) {
    const std::string publish = "/publish/";
    uWS::App app;
    app.ws<Connection>("/*", {
        .compression = uWS::DISABLED,
        .maxPayloadLength = 16 << 20,
        .idleTimeout = 120,
        .maxBackpressure = 64 << 20,
        .closeOnBackpressureLimit = true,
        .upgrade = [&publish](auto *response, auto *request, auto *context) {
            std::string path(request->getUrl());
            bool isPublisher = path.rfind(publish, 0) == 0;
            std::string channel = path.substr(isPublisher ? publish.size() : 1);
            response->template upgrade<Connection>({channel, !isPublisher && channel != "lobby"},
                request->getHeader("sec-websocket-key"), request->getHeader("sec-websocket-protocol"),
                request->getHeader("sec-websocket-extensions"), context);
        },
        .open = [](auto *ws) {
            Connection *connection = ws->getUserData();
            if (connection->isMember) ws->subscribe(connection->channel);
        },
        .message = [&app](auto *ws, std::string_view message, uWS::OpCode opcode) {
            Connection *connection = ws->getUserData();
            if (connection->isMember) ws->publish(connection->channel, message, opcode);
            else app.publish(connection->channel, message, opcode);
        },
    });
    app.listen("127.0.0.1", std::atoi(argv[1]), [](auto *socket) {
        if (!socket) std::exit(1);
    });
    app.run();
}
