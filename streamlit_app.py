"""The console's launcher: `streamlit run streamlit_app.py` and `uvicorn streamlit_app:app` serve it with the same
guard as `capi-console console`; inside a running script it draws."""

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from core.doors import console_main, console_server

if get_script_run_ctx(suppress_warning=True) is None:
    from streamlit import config

    for name, value in console_server.streamlit_options():
        config.set_option(name, value)
    app = st.App(console_server.MAIN, middleware=console_server.MIDDLEWARE)
else:
    console_main.render()
