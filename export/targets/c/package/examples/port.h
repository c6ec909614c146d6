/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: the xMAE authors */
/* What examples and tests ask of a board: to show a text. */
#ifndef PORT_H
#define PORT_H

void say(const char *text);

#endif
