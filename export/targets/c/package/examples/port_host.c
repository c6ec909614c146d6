/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: the xMAE authors */
#include "port.h"

#include <stdio.h>

void say(const char *text) { (void)fputs(text, stdout); }
