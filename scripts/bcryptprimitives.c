/* A bcryptprimitives.dll for versions of wine that have none, such as wine 8 of Debian 12.
 * Rust's standard library takes its random numbers from there. */

#include <windows.h>
#include <ntsecapi.h>

__declspec(dllexport) BOOL WINAPI ProcessPrng(BYTE *data, SIZE_T length)
{
    const SIZE_T most = 1 << 20;

    for (SIZE_T done = 0; done < length;) {
        SIZE_T part = length - done < most ? length - done : most;
        if (!RtlGenRandom(data + done, (ULONG)part))
            return FALSE;
        done += part;
    }
    return TRUE;
}
