/* Decodes with bcg729: rows of a frame after its length in one byte (10 speech, 2 silence descriptor, 0 not sent) on
   standard input, 16-bit samples on standard output. Built and run by the tests alone: bcg729 is GPL. */
#include <bcg729/decoder.h>
#include <stdint.h>
#include <stdio.h>

int main(void) {
    bcg729DecoderChannelContextStruct *decoder = initBcg729DecoderChannel();
    uint8_t frame[10];
    int16_t sound[80];
    int length;
    while ((length = getchar()) != EOF && length <= 10 && fread(frame, 1, length, stdin) == (size_t)length) {
        bcg729Decoder(decoder, length ? frame : NULL, length, length == 0, length == 2, 0, sound);
        fwrite(sound, 2, 80, stdout);
    }
    return 0;
}
