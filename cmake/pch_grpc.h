#pragma once
#include "pch_base.h"

#include <google/protobuf/message.h>
#include <grpcpp/grpcpp.h>
