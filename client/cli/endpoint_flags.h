#pragma once
#include "client/cli/flags.h"
#include "client/client.h"

namespace tandem::cli {

// The flags of every command that calls a router: where it is, and how to know it.
void DeclareEndpoint(Flags* flags, Client::Options* to);

}  // namespace tandem::cli
